"""The peers' side: a process of the peers' Python that answers one JSON question a line. usage: peers.py SOURCES NAME

Steps are those of the peers' sources. Their scripts run with a stand-in for their timing module, so that they hand
over the functions that they would have timed.
"""
import contextlib, io, json, os, runpy, statistics, sys, time, types, warnings

SOURCES = sys.argv[1]


def hand_over(script, options):
    """Runs a script of the peers; what it would have timed, and its names."""
    cases = []
    common = types.ModuleType("common")
    common.Case = lambda name, fn, flops=None, reps=0, note="": cases.append((name, fn, flops, note))
    common.run_cases = lambda *_, **__: None
    common.THREADS, common.os = int(os.environ["OMP_NUM_THREADS"]), os
    common.resource = __import__("resource")
    sys.modules["common"], sys.argv = common, [script, *options]
    with contextlib.redirect_stdout(io.StringIO()):
        names = runpy.run_path(os.path.join(SOURCES, script))
    return cases, names


class Step:
    """One way to do a step. Scripts seed their draws, so all ways of a net start from the same numbers."""

    def __init__(self, script, options, case):
        self.cases, self.names = hand_over(script, options)
        found = [c for c in self.cases if c[0].endswith(" " + case)]
        if len(found) != 1:
            raise ValueError(f"{script} {options} has no case '{case}': {[c[0] for c in self.cases]}")
        self.name, self.run, self.flops, self.note = found[0]

    def meta_gradient(self):
        """Of the next step. Compiled ways leave it in the parameters."""
        import torch
        gradient = self.run()
        gradient = gradient if gradient is not None else [p.grad for p in self.names["n"].layers.parameters()]
        return torch.cat([g.detach().flatten() for g in gradient])


def off(found, wanted):
    return float((found - wanted).norm() / wanted.norm())


def torch_worker():
    steps, references = {}, {}

    def same_meta_gradient(step, net):
        """All ways have done one step when they are asked this, so this one has to be the same too."""
        found = step.meta_gradient()
        error = off(found, references.setdefault(net, found))
        if error > 1e-4:
            raise ValueError(f"{step.name}: the meta-gradient is off by {error:.1e}")

    def files(net, folder):
        """Writes parameters and batches for `tessera gradient`, at an inner rate where the second order is seen."""
        import copy, torch
        from safetensors.torch import save_file
        _, names = hand_over("bench_net.py", ["--net", net, "--sets", "eager", "--cases", "none"])
        base, meta, alpha = names["base"], names["meta"], 0.5

        def of(rule):
            net = copy.deepcopy(base)
            gradient = rule(net, *meta.opts(net), names["xa"], names["ya"], 1, names["xb"], names["yb"], alpha)
            return torch.cat([g.detach().flatten() for g in gradient])
        exact, first = of(meta.meta2_graph), of(meta.meta1)
        if off(first, exact) < 1e-2:
            raise ValueError("this check would not see the second order")
        # Layers of ours count blocks, PyTorch's count modules.
        layers = [p.detach() for p in base.layers.parameters()]
        params = {f"layers.{i // 2}.{('weight', 'bias')[i % 2]}": p for i, p in enumerate(layers)}
        params |= {f"decoder.{k}": p.detach() for k, p in base.decoder.named_parameters()}
        save_file({k: p.contiguous() for k, p in params.items()}, os.path.join(folder, "params.safetensors"))
        number = lambda v, kind: torch.tensor(v, dtype=kind)
        save_file(dict(inner_images=names["xa"], inner_labels=names["ya"].to(torch.uint32), outer_images=names["xb"],
                       outer_labels=names["yb"].to(torch.uint32), task=number(1, torch.uint32),
                       alpha=number(alpha, torch.float32), inner_steps=number(1, torch.uint32)),
                  os.path.join(folder, "batch.safetensors"))
        references[folder] = exact

    def gradient_off(folder):
        import torch
        from safetensors.torch import load_file
        found = load_file(os.path.join(folder, "gradient.safetensors"))
        blocks = sum(k.startswith("layers.") and k.endswith(".weight") for k in found)
        return off(torch.cat([found[f"layers.{i}.{p}"].flatten() for i in range(blocks) for p in ("weight", "bias")]), references[folder])

    def answer(q):
        if "files" in q:
            files(q["net"], q["files"])
            return {}
        if "gradient" in q:
            return dict(off=gradient_off(q["gradient"]))
        key = (q["script"], *q["options"], q["case"])
        if key not in steps:
            step = steps[key] = Step(q["script"], q["options"], q["case"])
            if q.get("check"):
                same_meta_gradient(step, q["check"])
        step, times = steps[key], []
        if q["repeats"]:
            for _ in range(1 + q["repeats"]):
                begin = time.perf_counter()
                step.run()
                times.append((time.perf_counter() - begin) * 1e3)
        with open("/proc/self/status") as f:
            status = {k: v.split()[0] for k, v in (line.split(":", 1) for line in f if line.count(":") == 1) if v.strip()}
        peak = int(status["VmHWM"])
        # bench_net.py says what its first step took in seconds.
        first = float(step.note.split()[2]) * 1e3 if step.note.startswith("first call") else None
        return dict(ms=statistics.median(times[1:]) if times else None, gflop=step.flops / 1e9, first_ms=first,
                    peak=peak << 10, anonymous=(peak - int(status["RssFile"])) << 10)
    return answer


def kmeans_worker(peer):
    import numpy as np
    loaded, seen = {}, set()
    if peer == "faiss":
        import faiss
        faiss.omp_set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    else:
        from sklearn.cluster import KMeans

    def fit(x, start, iterations):
        begin = time.perf_counter()
        if peer == "faiss":
            # All points, as the others use; without the limits faiss would draw a sample.
            km = faiss.Kmeans(x.shape[1], len(start), niter=iterations, nredo=1, max_points_per_centroid=len(x), min_points_per_centroid=1)
            km.train(x, init_centroids=start.copy())
            return time.perf_counter() - begin, iterations, km.centroids
        km = KMeans(len(start), init=start, n_init=1, max_iter=iterations, tol=0, algorithm="lloyd").fit(x)
        return time.perf_counter() - begin, km.n_iter_, km.cluster_centers_

    def inertia(x, centres):
        total, centres = 0.0, centres.astype(np.float64)
        for first in range(0, len(x), 20_000):
            rows = x[first:first + 20_000].astype(np.float64)
            scores = (rows * rows).sum(1)[:, None] - 2 * rows @ centres.T + (centres * centres).sum(1)
            total += float(scores.min(1).sum())
        return total

    def converge(x, q):
        begin = time.perf_counter()
        km = KMeans(q["k"], init="k-means++", n_init=q["restarts"], max_iter=q["most"], tol=q["tol"], random_state=q["seed"], algorithm="lloyd").fit(x)
        ms = (time.perf_counter() - begin) * 1e3
        return dict(ms=ms, iterations=km.n_iter_, inertia=inertia(x, km.cluster_centers_))

    def answer(q):
        if q["data"] not in loaded:
            loaded[q["data"]] = np.load(q["data"])
        x = loaded[q["data"]]
        if "restarts" in q:
            return converge(x, q)
        # Two cases may share their points; the inertia is told once a start.
        first = (q["data"], q["init"]) not in seen
        if first:
            seen.add((q["data"], q["init"]))
            fit(x, np.load(q["init"]), 2)
        seconds, iterations, centres = fit(x, np.load(q["init"]), q["iterations"])
        return dict(ms=seconds * 1e3 / iterations, iterations=iterations, **(dict(inertia=inertia(x, centres)) if first else {}))
    return answer


def serve(name):
    """Answers on the real standard output; whatever libraries print goes to standard error."""
    out, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr
    os.dup2(2, 1)
    sys.path.insert(0, SOURCES)
    warnings.filterwarnings("ignore")
    answer = torch_worker() if name == "torch" else kmeans_worker(name)
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line))
        except Exception as e:
            reply = dict(error=f"{type(e).__name__}: {e}")
        print(json.dumps(reply), file=out, flush=True)


if __name__ == "__main__":
    serve(sys.argv[2])

#!/usr/bin/env python3
"""Tessera beside PyTorch, scikit-learn and faiss, in turn on the same cores, with the ratios that the project promises.

    python3 benches/peers.py [CASE …] [--pairs 10] [--json]        CASE: second sgd memory kmeans15 kmeans100 kmeans256

Needs a release build of tessera, the peers' sources in $TESSERA_SHARED/peers (default ../shared/peers), and their
Python environment in $PEERS_WORK (default: "peers" in the temporary folder), which setup.sh there makes.
Exit codes: 0 all ratios reached, 1 not all, 2 usage, 77 skipped because something is missing.

Every peer is one process that is started and warmed up once and then asked for one timing at a time; a round asks
tessera and each peer in turn. Rounds in which other processes used the cores are measured again.
"""
import argparse, json, os, resource, statistics, subprocess, sys, tempfile, time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SHARED = Path(os.environ.get("TESSERA_SHARED", ROOT.parent / "shared")) / "peers"
WORK = Path(os.environ.get("PEERS_WORK", Path(tempfile.gettempdir()) / "peers"))
SKIPPED = 77

SECOND = ["create_graph", "create_graph, channels-last", "compiled reverse-over-reverse", "hand-written R-operator",
          "hand-written R-operator, channels-last"]
SGD = ["eager", "eager, channels-last", "compiled"]
# Points, numbers, clusters, iterations, required ratio.
KMEANS = {"kmeans15": (50_000, 256, 15, 20, 1.5), "kmeans100": (50_000, 256, 100, 20, 1.5), "kmeans256": (1_000_000, 64, 256, 10, 1.3)}
# The C library then keeps memory between steps, in large pages: PyTorch gains 10 to 15 %.
ALLOCATOR = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "MALLOC_MMAP_THRESHOLD_": str(4 << 30), "MALLOC_TRIM_THRESHOLD_": str(8 << 30)}
CASES = ["second", "sgd", "memory", *KMEANS]


# ---- peers: each runs in a process of its own, in the peers' environment -----------------------------------------

def torch_ways():
    """Functions that do one step each, made when they are asked for; nets and steps are those of the peers' sources."""
    import copy, torch
    from torch.func import functional_call, grad
    import meta, models
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(0)
    base = models.CifarNet(T=4)
    (xa, xb), ya, yb = torch.randn(2, 100, *base.in_shape), torch.randint(0, base.K, (100,)), torch.randint(0, base.C, (100,))

    def start(channels_last):
        net, layout = copy.deepcopy(base), torch.channels_last if channels_last else torch.contiguous_format
        images = [x.contiguous(memory_format=layout) for x in (xa, xb)]
        return net.to(memory_format=layout), *images, *meta.opts(net)

    def second(way):
        net, a, b, shared, decoders = start("channels-last" in way)
        if way.startswith("create_graph"):
            return lambda: meta.meta2_graph(net, shared, decoders, a, ya, 1, b, yb)
        if way.startswith("hand-written"):
            written = meta.Manual(net)
            return lambda: written.meta2(shared, decoders, a, ya, 1, b, yb)
        params = {k: p.detach() for k, p in net.layers.named_parameters()}
        heads = [{k: p.detach() for k, p in d.named_parameters()} for d in net.decoder]

        def loss(p, head, task, x, y):
            return meta.CE(functional_call(net.decoder[task], head, functional_call(net.layers, p, x)), y)

        def outer(p):
            g, head = grad(lambda p, q: loss(p, q, 1, a, ya), argnums=(0, 1))(p, heads[1])
            return loss({k: w - 1e-3 * g[k] for k, w in p.items()}, heads[0], 0, b, yb), head
        compiled = torch.compile(grad(outer, has_aux=True), dynamic=False)

        def step():
            g, head = compiled(params)
            meta._apply(decoders[1], net.decoder[1].parameters(), head.values())
            meta._apply(shared, net.layers.parameters(), g.values())
            return list(g.values())
        return step

    def sgd(way):
        net, _, x, _, _ = start("channels-last" in way)
        optimiser = torch.optim.SGD([*net.layers.parameters(), *net.decoder[0].parameters()], lr=1e-3, momentum=0.9, weight_decay=5e-4)
        if way != "compiled":
            return lambda: meta.sgd_step(net, optimiser, x, yb)
        params, head = ({k: p.detach() for k, p in m.named_parameters()} for m in (net.layers, net.decoder[0]))
        loss = lambda p, q: meta.CE(functional_call(net.decoder[0], q, functional_call(net.layers, p, x)), yb)
        compiled = torch.compile(grad(loss, argnums=(0, 1)), dynamic=False)

        def step():
            g, h = compiled(params, head)
            meta._apply(optimiser, [*net.layers.parameters(), *net.decoder[0].parameters()], [*g.values(), *h.values()])
        return step

    def same_work(way, step):
        """All ways start from one net, so the first meta-gradient has to be the same."""
        found, wanted = (torch.cat([g.detach().flatten() for g in s()]) for s in (step, second("create_graph")))
        error = float((found - wanted).norm() / wanted.norm())
        assert error < 1e-4, f"{way}: the meta-gradient is off by {error:.1e}"

    def make(kind, way):
        if kind == "sgd":
            return sgd(way)
        step = second(way)
        if kind == "second":
            same_work(way, step)
        return step
    return make


def torch_worker():
    make, steps = torch_ways(), {}

    def answer(q):
        key = (q["kind"], q["way"])
        if key not in steps:
            steps[key] = make(*key)
            steps[key]()
        times = []
        for _ in range(1 + q["repeats"]):
            begin = time.perf_counter()
            steps[key]()
            times.append((time.perf_counter() - begin) * 1e3)
        with open("/proc/self/status") as f:
            status = {k: v.split()[0] for k, v in (line.split(":", 1) for line in f if line.count(":") == 1) if v.strip()}
        peak = int(status["VmHWM"])
        return dict(ms=statistics.median(times[1:]), peak=peak << 10, anonymous=(peak - int(status["RssFile"])) << 10)
    return answer


def kmeans_worker(peer):
    import warnings
    import numpy as np
    warnings.filterwarnings("ignore")
    loaded, seen = {}, set()

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

    if peer == "faiss":
        import faiss
        faiss.omp_set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    else:
        from sklearn.cluster import KMeans

    def answer(q):
        # Two cases may share their points; the inertia is told once a start.
        first = (q["data"], q["init"]) not in seen
        if q["data"] not in loaded:
            loaded[q["data"]] = np.load(q["data"])
        x = loaded[q["data"]]
        if first:
            seen.add((q["data"], q["init"]))
            fit(x, np.load(q["init"]), 2)
        seconds, iterations, centres = fit(x, np.load(q["init"]), q["iterations"])
        return dict(ms=seconds * 1e3 / iterations, iterations=iterations, **(dict(inertia=inertia(x, centres)) if first else {}))
    return answer


def serve(name):
    """Answers one JSON question a line, on the real standard output; whatever libraries print goes to standard error."""
    out, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr
    os.dup2(2, 1)
    sys.path.insert(0, str(SHARED))
    answer = torch_worker() if name == "torch" else kmeans_worker(name)
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line))
        except Exception as e:
            reply = dict(error=f"{type(e).__name__}: {e}")
        print(json.dumps(reply), file=out, flush=True)


# ---- the measuring side: only the standard library, so that its own memory and threads do not matter -------------

class Peer:
    def __init__(self, name, threads, allocator=ALLOCATOR):
        env = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
        env.update({f"{lib}_NUM_THREADS": str(threads) for lib in ("OMP", "MKL", "OPENBLAS")}, **allocator)
        command = [WORK / "venv/bin/python", __file__, "--serve", name]
        self.name = name
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def ask(self, **question):
        print(json.dumps(question), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        reply = json.loads(line) if line else dict(error="the process ended")
        if "error" in reply:
            raise RuntimeError(f"{self.name} {question}: {reply['error']}")
        return reply

    def seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Bench:
    def __init__(self, options):
        self.options, self.peers = options, {}

    def peer(self, name):
        if name not in self.peers:
            self.peers[name] = Peer(name, self.options.threads)
        return self.peers[name]

    def tessera(self, *arguments):
        command = [self.options.tessera, "bench", *map(str, arguments), "--threads", str(self.options.threads), "--json"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
        return json.loads(done.stdout.splitlines()[-1])

    def others(self):
        """CPU seconds of processes that are not ours, since the machine started."""
        with open("/proc/stat") as f:
            user, nice, system, _, _, irq, soft, steal = map(int, f.readline().split()[1:9])
        busy = (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")
        own = sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
        return busy - own - sum(peer.seconds() for peer in self.peers.values())

    def rounds(self, ask):
        """Asks everyone in turn, in `pairs` undisturbed rounds; `ask` maps names to functions that time one answer."""
        for function in ask.values():
            function()
        rounds, dropped = [], 0
        while len(rounds) < self.options.pairs:
            answers, disturbed = {}, False
            for name, function in ask.items():
                # Threads of the one before stop spinning first.
                time.sleep(0.3)
                before, begin = self.others(), time.perf_counter()
                answers[name] = function()
                taken = (self.others() - before) / (self.options.threads * (time.perf_counter() - begin))
                disturbed |= taken > self.options.others
            dropped += disturbed
            if not disturbed:
                rounds.append(answers)
            elif dropped > 2 * self.options.pairs:
                raise RuntimeError(f"other processes keep the cores busy: {dropped} rounds dropped")
        return rounds, dropped

    def compare(self, case, ours, peers, required):
        rounds, dropped = self.rounds({"tessera": ours, **peers})
        medians = {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}
        best = min(peers, key=medians.get)
        ratios = sorted(r[best] / r["tessera"] for r in rounds)
        return dict(case=case, unit="ms", ours=medians["tessera"], peer=medians[best], way=best, required=required,
                    ratio=medians[best] / medians["tessera"], worst_pair=ratios[0], best_pair=ratios[-1],
                    pairs=len(rounds), dropped=dropped, all=medians)

    def step(self, case):
        kind, rule, ways, required = dict(second=("second", "paper", SECOND, 1.3), sgd=("sgd", "sgd", SGD, 1.2))[case]
        step = lambda: self.tessera("step", "--net", "cifarnet", "--rule", rule, "--repeats", 3)["median_ms"]
        torch = lambda way: lambda: self.peer("torch").ask(kind=kind, way=way, repeats=3)["ms"]
        return self.compare(f"CifarNet {case}-order step, batch 100" if case == "second" else "CifarNet SGD step, batch 100",
                            step, {f"PyTorch {way}": torch(way) for way in ways}, required)

    def memory(self):
        """Peak of whole processes that do five steps; PyTorch's beside what its libraries alone map into memory."""
        peaks = {}
        for way in SECOND:
            peer = Peer("torch", self.options.threads, {})
            peaks[f"PyTorch {way}"] = peer.ask(kind="peak", way=way, repeats=3)
            peer.close()
        best = min(peaks, key=lambda way: peaks[way]["peak"])
        ours = self.tessera("step", "--net", "cifarnet", "--rule", "paper", "--repeats", 5)["peak_bytes"]
        return dict(case="CifarNet second-order step, peak memory", unit="MiB", ours=ours / 2**20, peer=peaks[best]["peak"] / 2**20, way=best,
                    required=2.0, ratio=peaks[best]["peak"] / ours, anonymous_ratio=min(p["anonymous"] for p in peaks.values()) / ours,
                    all={way: p["peak"] / 2**20 for way, p in peaks.items()},
                    anonymous={way: p["anonymous"] / 2**20 for way, p in peaks.items()})

    def kmeans(self, case):
        n, d, k, iterations, required = KMEANS[case]
        kind = self.options.points
        data, init = (WORK / "data" / f"{kind}_{n}x{d}{end}.npy" for end in ("", f"_init{k}"))
        if not init.exists():
            sets = {"kmeans15": "A15", "kmeans100": "A100", "kmeans256": "C"}[case]
            command = [WORK / "venv/bin/python", SHARED / "bench_kmeans.py", "--sets", sets, "--data", kind, "--gen-only"]
            subprocess.run(command, check=True, env={**os.environ, "PEERS_WORK": str(WORK)})
        inertia, counts = {}, {}

        def keep(name, reply):
            inertia.setdefault(name, reply.get("inertia"))
            counts[name] = reply["iterations"]
            return reply.get("ms", reply.get("ms_per_iteration"))
        ours = lambda: keep("tessera", self.tessera("kmeans", "--data", data, "--init", init, "--iters", iterations))
        peer = lambda name: lambda: keep(name, self.peer(name).ask(data=str(data), init=str(init), iterations=iterations))
        row = self.compare(f"k-means iteration, N={n:,} d={d} k={k}, {kind}", ours, {name: peer(name) for name in ("sklearn", "faiss")}, required)
        off = max(abs(value / inertia["tessera"] - 1) for value in inertia.values())
        if off > 1e-5 or len(set(counts.values())) > 1:
            raise RuntimeError(f"{case}: not the same work: inertia {inertia}, iterations {counts}")
        return dict(row, inertia_off=off, iterations=iterations)


def table(rows):
    print(f"{'':<48} {'tessera':>9} {'best peer':>10} {'ratio':>6} {'needed':>7}")
    for r in rows:
        verdict = "reached" if r["ratio"] >= r["required"] else "MISSED"
        spread = f", pairs {r['worst_pair']:.2f} to {r['best_pair']:.2f} (n={r['pairs']})" if "pairs" in r else ""
        spread += f", anonymous only {r['anonymous_ratio']:.2f}" if "anonymous_ratio" in r else ""
        print(f"{r['case']:<48} {r['ours']:>9.2f} {r['peer']:>10.2f} {r['ratio']:>6.2f} {r['required']:>7.2f}  {verdict}: {r['unit']}, {r['way']}{spread}")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    options.add_argument("--pairs", type=int, default=10, help="undisturbed rounds of each case")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--points", choices=["blobs", "gauss"], default="blobs", help="k-means data: like embeddings, or without any structure")
    options.add_argument("--others", type=float, default=0.05, help="share of the cores that other processes may use in a round")
    options.add_argument("--tessera", default=str(Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/tessera"))
    options.add_argument("--json", action="store_true", help="one JSON object a case on standard output")
    options.add_argument("--serve", choices=["torch", "sklearn", "faiss"], help=argparse.SUPPRESS)
    options = options.parse_args()
    if options.serve:
        return serve(options.serve)
    if unknown := set(options.cases) - set(CASES):
        print(f"peers: unknown case {', '.join(unknown)}; known: {', '.join(CASES)}", file=sys.stderr)
        return 2
    needed = [(SHARED / "meta.py", "the peers' sources; set TESSERA_SHARED"),
              (WORK / "venv/bin/python", f"their Python; run PEERS_WORK={WORK} {SHARED / 'setup.sh'}"),
              (Path(options.tessera), "a release build; run cargo build --release")]
    for path, what in needed:
        if not path.exists():
            print(f"SKIPPED: NOTHING WAS MEASURED. No {path}: {what}.", file=sys.stderr)
            return SKIPPED
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:options.threads])
    bench, rows = Bench(options), []
    try:
        for case in options.cases or CASES:
            row = bench.memory() if case == "memory" else bench.kmeans(case) if case in KMEANS else bench.step(case)
            rows.append(row)
            if options.json:
                print(json.dumps(dict(row, reached=row["ratio"] >= row["required"])), flush=True)
    except RuntimeError as e:
        print(f"peers: {e}", file=sys.stderr)
        return 1
    finally:
        for peer in bench.peers.values():
            peer.close()
    if not options.json:
        table(rows)
    return int(any(r["ratio"] < r["required"] for r in rows))


if __name__ == "__main__":
    sys.exit(main())

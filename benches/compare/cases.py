"""What is compared, and what is owed: `at_least` and `aim` bound ours over the best peer's."""
import os, statistics, subprocess, tempfile, time
from functools import partial
from pathlib import Path

from rounds import PYTHON, SHARED, SOURCES, WORK, Failed, Peer

# Ways of the peers' scripts: what they are, the set of options, the case.
SECOND = [("create_graph", "eager", "meta second-order create_graph"),
          ("create_graph, channels-last", "cl", "meta second-order create_graph"),
          ("compiled reverse-over-reverse", "compile", "meta second-order rev-over-rev"),
          ("compiled reverse-over-reverse, channels-last", "compilecl", "meta second-order rev-over-rev"),
          ("hand-written R-operator", "eager", "meta second-order manual aten R-op"),
          ("hand-written R-operator, channels-last", "cl", "meta second-order manual aten R-op")]
SGD = [("eager", "eager", "fwd+bwd+sgd"), ("eager, channels-last", "cl", "fwd+bwd+sgd"),
       ("compiled", "compile", "fwd+bwd+sgd via func.grad"), ("compiled, channels-last", "compilecl", "fwd+bwd+sgd via func.grad")]
FORWARD = [("eager", "eager", "forward"), ("eager, channels-last", "cl", "forward"),
           ("compiled", "compile", "forward"), ("compiled, channels-last", "compilecl", "forward")]
ACAI = [("eager", "eager", "train step"), ("eager, channels-last", "cl", "train step"),
        ("compiled", "compile", "train step"), ("compiled, channels-last", "compilecl", "train step")]
NETS = {"cifarnet": ("bench_net.py", ["--net", "cifar"]), "mininet": ("bench_net.py", ["--net", "mini"]),
        "acai16": ("bench_acai.py", ["--which", "mnist"]), "acai64": ("bench_acai.py", ["--which", "cifar"])}


def of(net, way):
    """The question for a way of a net."""
    (script, options), (_, sets, case) = NETS[net], way
    cases = ["--cases", case] if script == "bench_net.py" else []
    return dict(script=script, options=[*options, "--sets", sets, *cases], case=case)


def step(bench, title, net, rule, ways, at_least, aim, repeats=3):
    gflop, exact = {}, rule == "paper" and ways is SECOND

    def told(name, reply, ms):
        gflop[name] = reply["gflop"]
        return reply[ms]
    ours = lambda: told("tessera", bench.tessera("bench", "step", "--net", net, "--rule", rule, "--repeats", repeats), "median_ms")
    check = dict(check=net) if exact else {}
    torch = lambda way: lambda: told(way[0], bench.peer("torch").ask(**of(net, way), **check, repeats=repeats), "ms")
    remarks = [f"meta-gradient off by {same_meta_gradient(bench, net):.0e} from PyTorch's"] if exact else []
    row = bench.compare(title, ours, {f"PyTorch {way[0]}": torch(way) for way in ways})
    theirs = gflop[ways[0][0]]
    # Theirs are convolutions and products alone.
    if not 0.98 * theirs <= gflop["tessera"] <= 1.1 * theirs:
        raise Failed(f"{title}: not the same work: {gflop['tessera']:.2f} GFLOP, PyTorch's {theirs:.2f}")
    return dict(row, value=row["ratio"], at_least=at_least, aim=aim, gflop=gflop["tessera"], peers_gflop=theirs, remarks=remarks)


def same_meta_gradient(bench, net):
    """How far tessera's exact meta-gradient of a batch of 100 is from PyTorch's, at the same parameters."""
    with tempfile.TemporaryDirectory() as folder:
        bench.peer("torch").ask(files=folder, net=NETS[net][1][1])
        params, batch, out = (Path(folder) / f"{name}.safetensors" for name in ("params", "batch", "gradient"))
        bench.tessera("gradient", "--net", net, "--params", params, "--batch", batch, "-o", out)
        off = bench.peer("torch").ask(gradient=folder)["off"]
    if off > 1e-4:
        raise Failed(f"{net}: the meta-gradient is off by {off:.1e} from PyTorch's")
    return off


def start(bench):
    """From before the process until its first step begins, and to the end of that step."""
    begins = {"tessera": [], "peer": []}

    def ours():
        figures = bench.tessera("bench", "step", "--net", "cifarnet", "--rule", "paper", "--repeats", 0)
        begins["tessera"].append(figures["whole_ms"] - figures["median_ms"])
        return figures["whole_ms"]

    def torch():
        begin = time.perf_counter()
        peer = Peer("torch", bench.options.threads)
        reply = peer.ask(**of("cifarnet", SECOND[0]), repeats=0)
        whole = (time.perf_counter() - begin) * 1e3
        peer.close()
        begins["peer"].append(whole - reply["first_ms"])
        return whole
    row = bench.compare("start to the first exact second-order step, CifarNet", ours, {"PyTorch create_graph": torch})
    begins = {name: times[-row["pairs"]:] for name, times in begins.items()}
    until, theirs = (statistics.median(v) for v in begins.values())
    remarks = [f"to the end of that step {row['ours']:.0f} and {row['peer']:.0f} ms", "limits in ms of ours"]
    return dict(row, ours=until, peer=theirs, ratio=until / theirs, least=min(begins["tessera"]) / theirs, most=max(begins["tessera"]) / theirs,
                to_the_end=dict(ours=row["ours"], peer=row["peer"]), value=until, at_least=100, aim=20, remarks=remarks)


def memory(bench):
    """Peak of whole processes that do five steps; PyTorch's beside what its libraries alone map into memory."""
    peaks = {}
    for way in SECOND:
        peer = Peer("torch", bench.options.threads, {})
        peaks[f"PyTorch {way[0]}"] = peer.ask(**of("cifarnet", way), repeats=3)
        peer.close()
    best = min(peaks, key=lambda way: peaks[way]["peak"])
    ours = bench.tessera("bench", "step", "--net", "cifarnet", "--rule", "paper", "--repeats", 5)["peak_bytes"]
    ratio, alone = ours / peaks[best]["peak"], ours / min(p["anonymous"] for p in peaks.values())
    mib = lambda what: {way: p[what] / 2**20 for way, p in peaks.items()}
    return dict(case="CifarNet exact second-order step, peak memory", unit="MiB", ours=ours / 2**20, peer=peaks[best]["peak"] / 2**20, way=best,
                ratio=ratio, value=ratio, at_least=0.3, aim=0.1, remarks=[f"of its anonymous memory alone {alone:.3f}"],
                all=mib("peak"), anonymous=mib("anonymous"))


def kmeans(bench, n, d, k, iterations, sets):
    kind = bench.options.points
    data, init = (WORK / "data" / f"{kind}_{n}x{d}{end}.npy" for end in ("", f"_init{k}"))
    if not init.exists():
        command = [PYTHON, SOURCES / "bench_kmeans.py", "--sets", sets, "--data", kind, "--gen-only"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PEERS_WORK": str(WORK)})
    inertia, counts = {}, {}

    def keep(name, reply):
        inertia.setdefault(name, reply.get("inertia"))
        counts[name] = reply["iterations"]
        return reply.get("ms", reply.get("ms_per_iteration"))
    ours = lambda: keep("tessera", bench.tessera("bench", "kmeans", "--data", data, "--init", init, "--iters", iterations))
    peer = lambda name: lambda: keep(name, bench.peer(name).ask(data=str(data), init=str(init), iterations=iterations))
    title = f"k-means iteration, N={n:,} d={d} k={k}, {kind}"
    row = bench.compare(title, ours, {name: peer(name) for name in ("sklearn", "faiss")})
    off = max(abs(value / inertia["tessera"] - 1) for value in inertia.values())
    if off > 1e-5 or len(set(counts.values())) > 1:
        raise Failed(f"{title}: not the same work: inertia {inertia}, iterations {counts}")
    return dict(row, value=row["ratio"], at_least=0.5, aim=0.33, inertia_off=off, iterations=iterations)


def restarts(bench, samples="2^14", k=10, count=20, most=300, tol=1e-4):
    """All restarts of greedy k-means++ until they converge; tessera as a whole process, from the file of points to
    the file of labels, scikit-learn's fit alone."""
    data = WORK / "data" / f"mnist_acai256_{samples.replace('^', '')}.npy"
    inertia, seeds = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        if not data.exists():
            bench.tessera("data", "import", "idx", SHARED / "data/mnist", "-o", at / "mnist.safetensors")
            bench.tessera("embed", at / "mnist.safetensors", "-o", at / "codes.safetensors", "--samples", samples, "--rate", "1e-3")
            code = "import sys, numpy; from safetensors.numpy import load_file; numpy.save(sys.argv[2], load_file(sys.argv[1])['embedding'][:60_000])"
            subprocess.run([PYTHON, "-c", code, at / "codes.safetensors", data], check=True)

        def keep(name, fit, ms):
            # Each round has a seed of its own: how fast runs converge is a matter of luck too.
            seeds[name] = seeds.get(name, 0) + 1
            reply = fit(seeds[name])
            inertia.setdefault(name, []).append(reply["inertia"])
            return reply[ms]
        limits = ("--clusters", k, "--restarts", count, "--max-iter", most, "--tol", tol)
        ours = lambda seed: bench.tessera("cluster", data, "-o", at / "tasks.safetensors", "--tasks", 1, "--diversity", "none", *limits, "--seed", seed)
        sklearn = lambda seed: bench.peer("sklearn").ask(data=str(data), k=k, restarts=count, most=most, tol=tol, seed=seed)
        title = f"k-means to convergence, {count} restarts, MNIST d=256 k={k}"
        row = bench.compare(title, partial(keep, "tessera", ours, "whole_ms"), {"sklearn": partial(keep, "sklearn", sklearn, "ms")})
    # Of all rounds: other draws end in other minima.
    worse = statistics.mean(inertia["tessera"]) / statistics.mean(inertia["sklearn"]) - 1
    if worse > 1e-3:
        raise Failed(f"{title}: tessera's inertia is worse by {worse:.1e}: {inertia}")
    remarks = [f"inertia {worse:+.1e} of scikit-learn's", "ours with start, files and labels"]
    return dict(row, value=row["ratio"], at_least=0.4, aim=0.2, inertia_worse=worse, remarks=remarks)


CASES = {
    "second": partial(step, title="CifarNet exact second-order step, batch 100", net="cifarnet", rule="paper", ways=SECOND, at_least=0.55, aim=0.35),
    "sgd": partial(step, title="CifarNet SGD step, batch 100", net="cifarnet", rule="sgd", ways=SGD, at_least=0.6, aim=0.35),
    "forward": partial(step, title="CifarNet forward, batch 100", net="cifarnet", rule="forward", ways=FORWARD, at_least=0.7, aim=0.45),
    "mininet": partial(step, title="MiniNet exact second-order step, batch 100", net="mininet", rule="paper", ways=SECOND, at_least=0.5, aim=0.3),
    "acai16": partial(step, title="ACAI step, depth 16, batch 64", net="acai16", rule="paper", ways=ACAI, at_least=0.6, aim=0.4),
    "acai64": partial(step, title="ACAI step, depth 64, batch 64", net="acai64", rule="paper", ways=ACAI, at_least=0.6, aim=0.4, repeats=1),
    "kmeans15": partial(kmeans, n=50_000, d=256, k=15, iterations=20, sets="A15"),
    "kmeans100": partial(kmeans, n=50_000, d=256, k=100, iterations=20, sets="A100"),
    "kmeans10": partial(kmeans, n=60_000, d=32, k=10, iterations=20, sets="B"),
    "kmeans256": partial(kmeans, n=1_000_000, d=64, k=256, iterations=10, sets="C"),
    "restarts": restarts,
    "start": start,
    "memory": memory,
}

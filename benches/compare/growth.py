"""How tessera's time and memory grow with the size of the work: a table a size, each with the exponent of a power law."""
import json, math, statistics, time

STEP = ["bench", "step", "--net", "cifarnet", "--repeats", 1]
KMEANS = ["bench", "kmeans", "--n", 50_000, "--d", 64, "--k", 32, "--iters", 10]
# What grows, the option that says it, its values, the work, what the exponent of time may be. The size is the first
# number of a value.
TABLES = [
    ("batch, exact second-order step", "--batch", [25, 50, 100, 200, 400], [*STEP, "--rule", "paper"], 1.1),
    ("width, exact second-order step", "--channels", ["16,32", "32,64", "64,128", "128,256"], [*STEP, "--rule", "paper"], 2.1),
    ("inner steps S, exact second-order step", "--inner-steps", [1, 2, 4, 8], [*STEP, "--rule", "paper"], 1.1),
    ("auxiliary tasks T, exact second-order step", "--tasks", [1, 2, 4, 8, 16, 32], [*STEP, "--rule", "paper"], 0.1),
    ("auxiliary tasks T, joint step", "--tasks", [1, 2, 4, 8, 16, 32], [*STEP, "--rule", "mtl"], 0.3),
    ("points N, k-means iteration", "--n", [12_500, 25_000, 50_000, 100_000, 200_000, 400_000], KMEANS, 1.1),
    ("numbers d, k-means iteration", "--d", [16, 32, 64, 128, 256], KMEANS, 1.1),
    ("clusters k, k-means iteration", "--k", [8, 16, 32, 64, 128, 256], KMEANS, 1.1),
]
PASSES = 3


def exponent(sizes, costs):
    """Slope of the line of least squares through the logarithms: e of cost ∝ size^e."""
    x, y = ([math.log(v) for v in values] for values in (sizes, costs))
    mean_x, mean_y = statistics.mean(x), statistics.mean(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y)) / sum((a - mean_x) ** 2 for a in x)


def measure(bench, title, option, values, work, most):
    passes = []
    for _ in range(PASSES):
        passes.append([])
        for value in values:
            time.sleep(0.3)
            at = work.index(option) if option in work else len(work)
            passes[-1].append(bench.tessera(*work[:at], option, value, *work[at + 2:]))
    sizes = [int(str(value).split(",")[0]) for value in values]
    ms = [statistics.median(f.get("median_ms", f.get("ms_per_iteration")) for f in found) for found in zip(*passes)]
    peak = [min(f["whole_peak"] for f in found) for found in zip(*passes)]
    return dict(what=title, values=values, ms=ms, peak_mib=[p / 2**20 for p in peak], most=most,
                time_exponent=exponent(sizes, ms), memory_exponent=exponent(sizes, peak), passes=PASSES)


def run(bench):
    """Prints all tables; 1 if time grows faster anywhere than it should."""
    found = []
    for table in TABLES:
        row = measure(bench, *table)
        found.append(row)
        if bench.options.json:
            print(json.dumps(row), flush=True)
            continue
        verdict = "as it should" if row["time_exponent"] <= row["most"] else "TOO FAST"
        print(f"{row['what']}: time ∝ size^{row['time_exponent']:.2f} (at most {row['most']}, {verdict}), peak memory ∝ size^{row['memory_exponent']:.2f}")
        for label, cells in (("", row["values"]), ("ms", [f"{v:.2f}" for v in row["ms"]]), ("MiB", [f"{v:.0f}" for v in row["peak_mib"]])):
            print(f"{label:>5} " + "".join(f"{cell!s:>10}" for cell in cells))
    return int(any(row["time_exponent"] > row["most"] for row in found))

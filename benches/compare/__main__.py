"""Tessera beside PyTorch, scikit-learn and faiss, in turn on the same cores, with the ratios that the project promises.

    python3 benches/compare [CASE …] [--pairs 10] [--json]
    python3 benches/compare growth [--json]                how cost grows, with tessera alone

Needs a release build of tessera; but for growth also the peers' sources in $TESSERA_SHARED/peers (default
../shared/peers), and their Python environment in $PEERS_WORK (default: "peers" in the temporary folder), which
setup.sh there makes. Exit codes: 0 all that is owed is reached, 1 not all, 2 usage, 77 skipped because something is
missing.
"""
import argparse, json, os, sys
from pathlib import Path

sys.dont_write_bytecode = True  # in the working tree

import growth
from cases import CASES
from rounds import PYTHON, SHARED, SOURCES, TESSERA, WORK, Bench, Failed

SKIPPED = 77


def verdict(row):
    """Ratios are ours over the peer's: less is better."""
    return "aim reached" if row["value"] <= row["aim"] else "reached" if row["value"] <= row["at_least"] else "MISSED"


def table(rows):
    print(f"{'':<52} {'tessera':>9} {'best peer':>9} {'ours/peer':>9}  {'(rounds)':<13} {'at least':>8} {'aim':>6}")
    for r in rows:
        spread = f"({r['least']:.2f} to {r['most']:.2f})" if "least" in r else ""
        rest = [f"{r['unit']}, {r['way']}", *r.get("remarks", [])]
        print(f"{r['case']:<52} {r['ours']:>9.2f} {r['peer']:>9.2f} {r['ratio']:>9.3f}  {spread:<13} {r['at_least']:>8} {r['aim']:>6}"
              f"  {verdict(r)}; {'; '.join(rest)}")


def main():
    options = argparse.ArgumentParser(prog="compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("cases", nargs="*", metavar="CASE", help=f"{', '.join(CASES)} [default: all of these]; or growth")
    options.add_argument("--pairs", type=int, default=10, help="undisturbed rounds of each case")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--points", choices=["blobs", "gauss"], default="blobs", help="k-means data: like embeddings, or without any structure")
    options.add_argument("--others", type=float, default=0.05, help="share of the cores that other processes may use in a round")
    options.add_argument("--tessera", default=str(TESSERA))
    options.add_argument("--json", action="store_true", help="one JSON object a case on standard output")
    options = options.parse_args()
    grows = options.cases == ["growth"]
    if not grows and (unknown := set(options.cases) - set(CASES)):
        print(f"compare: unknown case {', '.join(sorted(unknown))}; known: {', '.join(CASES)}, and growth alone", file=sys.stderr)
        return 2
    if min(options.pairs, options.threads) < 1:
        print("compare: --pairs and --threads must be at least 1", file=sys.stderr)
        return 2
    needed = [(Path(options.tessera), "a release build; run cargo build --release"),
              (SOURCES / "meta.py", "the peers' sources; set TESSERA_SHARED"),
              (PYTHON, f"their Python; run PEERS_WORK={WORK} {SOURCES / 'setup.sh'}"),
              (SHARED / "data/mnist", "MNIST, for the case restarts; set TESSERA_SHARED")]
    for path, what in needed[:1] if grows else needed if "restarts" in (options.cases or CASES) else needed[:3]:
        if not path.exists():
            print(f"SKIPPED: NOTHING WAS MEASURED. No {path}: {what}.", file=sys.stderr)
            return SKIPPED
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:options.threads])
    bench, rows = Bench(options), []
    try:
        if grows:
            return growth.run(bench)
        for name in options.cases or CASES:
            row = CASES[name](bench)
            rows.append(row)
            if options.json:
                print(json.dumps(dict(row, verdict=verdict(row))), flush=True)
    except Failed as e:
        print(f"compare: {e}", file=sys.stderr)
        return 1
    finally:
        for peer in bench.peers.values():
            peer.close()
    if not options.json:
        table(rows)
    return int(any(verdict(r) == "MISSED" for r in rows))


if __name__ == "__main__":
    sys.exit(main())

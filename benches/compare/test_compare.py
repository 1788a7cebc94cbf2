"""What can be said of the comparison without peers: python3 -m unittest discover benches/compare"""
import os, subprocess, sys, tempfile, types, unittest
from pathlib import Path

import growth
import rounds

HERE = Path(__file__).resolve().parent


def compare(*arguments, **env):
    done = subprocess.run([sys.executable, HERE, *arguments], capture_output=True, text=True, env={**os.environ, **env})
    return done.returncode, done.stderr


class Command(unittest.TestCase):
    def test_unknown_cases_and_impossible_numbers_are_usage_errors(self):
        for arguments in (["nonsense"], ["growth", "sgd"], ["--pairs", "0"], ["--points", "circles"]):
            self.assertEqual(compare(*arguments)[0], 2, arguments)

    def test_what_is_missing_is_named_and_nothing_is_measured(self):
        with tempfile.TemporaryDirectory() as empty:
            code, said = compare("sgd", "--tessera", sys.executable, PEERS_WORK=empty, TESSERA_SHARED=empty)
            self.assertEqual(code, 77)
            self.assertIn("NOTHING WAS MEASURED", said)
            self.assertEqual(compare("growth", "--tessera", f"{empty}/tessera")[0], 77)


class Numbers(unittest.TestCase):
    def test_exponents_of_made_up_costs(self):
        sizes = [1, 3, 9, 40]
        for e in (0, 0.5, 1, 2):
            self.assertAlmostEqual(growth.exponent(sizes, [7 * s ** e for s in sizes]), e)
        self.assertTrue(1 < growth.exponent(sizes, [s + s * s for s in sizes]) < 2)

    def test_rounds_with_other_work_are_dropped_and_hopeless_ways_are_not_asked_again(self):
        bench = rounds.Bench(types.SimpleNamespace(pairs=3, threads=1, others=0.5))
        rounds.time = types.SimpleNamespace(sleep=lambda _: None, perf_counter=lambda now=iter(range(10**6)): next(now))
        self.addCleanup(setattr, rounds, "time", __import__("time"))
        asked, busy = [], [0.0]
        bench.others = lambda: busy[0]

        def way(name, ms):
            def function():
                asked.append(name)
                # Others work through the fourth answer of this way.
                busy[0] += 10 * (name == "fast" and asked.count("fast") == 4)
                return ms
            return function
        row = bench.compare("made up", way("tessera", 5), {"fast": way("fast", 10), "slow": way("slow", 20)})
        self.assertEqual((row["way"], row["ratio"], row["pairs"], row["dropped"]), ("fast", 0.5, 3, 1))
        self.assertEqual((asked.count("slow"), asked.count("fast"), row["all"]["slow"]), (2, 6, 20))


if __name__ == "__main__":
    unittest.main()

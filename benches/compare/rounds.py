"""The measuring side: only the standard library, so that its own memory and threads do not matter."""
import json, os, resource, statistics, subprocess, tempfile, time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SHARED = Path(os.environ.get("TESSERA_SHARED", ROOT.parent / "shared"))
SOURCES = SHARED / "peers"
WORK = Path(os.environ.get("PEERS_WORK", Path(tempfile.gettempdir()) / "peers"))
PYTHON = WORK / "venv/bin/python"
TESSERA = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/tessera"
# The C library then keeps memory between steps, in large pages: PyTorch gains 10 to 15 %.
ALLOCATOR = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "MALLOC_MMAP_THRESHOLD_": str(4 << 30), "MALLOC_TRIM_THRESHOLD_": str(8 << 30)}
# Ways that much slower than the best one in a first round cannot be the best one; they are not asked again.
HOPELESS = 1.25


class Failed(Exception):
    """Nothing can be said about a case."""


class Peer:
    def __init__(self, name, threads, allocator=ALLOCATOR):
        env = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
        env.update({f"{lib}_NUM_THREADS": str(threads) for lib in ("OMP", "MKL", "OPENBLAS")}, PYTHONDONTWRITEBYTECODE="1", **allocator)
        self.name = name
        self.process = subprocess.Popen([PYTHON, HERE / "peers.py", SOURCES, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def ask(self, **question):
        print(json.dumps(question), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        reply = json.loads(line) if line else dict(error="the process ended")
        if "error" in reply:
            raise Failed(f"{self.name} {question}: {reply['error']}")
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
        """The first JSON object that a verb prints, with the milliseconds from before the process to after it, and the
        most bytes that it held."""
        command = [self.options.tessera, *map(str, arguments), "--threads", str(self.options.threads), "--json"]
        with tempfile.TemporaryFile("w+") as errors:
            begin = time.perf_counter()
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
            with process.stdout as out:
                lines = out.read().splitlines()
            _, status, usage = os.wait4(process.pid, 0)
            whole_ms = (time.perf_counter() - begin) * 1e3
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode != 0 or not lines:
                errors.seek(0)
                raise Failed(f"{' '.join(map(str, command))}: exit code {process.returncode}: {errors.read().strip()}")
        return dict(json.loads(lines[0]), whole_ms=whole_ms, whole_peak=usage.ru_maxrss << 10)

    def others(self):
        """CPU seconds of processes that are not ours, since the machine started."""
        with open("/proc/stat") as f:
            user, nice, system, _, _, irq, soft, steal = map(int, f.readline().split()[1:9])
        busy = (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")
        own = sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
        return busy - own - sum(peer.seconds() for peer in self.peers.values())

    def round(self, ask):
        """Asks everyone in turn; the answers, and whether other processes used the cores meanwhile."""
        answers, disturbed = {}, False
        for name, function in ask:
            # Threads of the one before stop spinning first.
            time.sleep(0.3)
            before, begin = self.others(), time.perf_counter()
            answers[name] = function()
            taken = (self.others() - before) / (self.options.threads * (time.perf_counter() - begin))
            disturbed |= taken > self.options.others
        return answers, disturbed

    def rounds(self, ask):
        """`pairs` undisturbed rounds of functions that time one answer each, by name. Also how many rounds were
        dropped, and what ways without hope took."""
        for function in ask.values():
            function()
        trial, _ = self.round(ask.items())
        best = min(ms for name, ms in trial.items() if name != "tessera")
        hopeless = {name: ms for name, ms in trial.items() if name != "tessera" and ms > HOPELESS * best}
        kept = [(name, function) for name, function in ask.items() if name not in hopeless]
        rounds, dropped = [], 0
        while len(rounds) < self.options.pairs:
            # What warms the machine up, or lets it cool, meets everyone alike.
            answers, disturbed = self.round(kept if len(rounds) % 2 == 0 else kept[::-1])
            dropped += disturbed
            if not disturbed:
                rounds.append(answers)
            elif dropped > 2 * self.options.pairs:
                raise Failed(f"other processes keep the cores busy: {dropped} rounds dropped")
        return rounds, dropped, hopeless

    def compare(self, case, ours, peers):
        rounds, dropped, hopeless = self.rounds({"tessera": ours, **peers})
        medians = {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}
        best = min((name for name in medians if name != "tessera"), key=medians.get)
        ratios = sorted(r["tessera"] / r[best] for r in rounds)
        return dict(case=case, unit="ms", ours=medians["tessera"], peer=medians[best], way=best,
                    ratio=medians["tessera"] / medians[best], least=ratios[0], most=ratios[-1],
                    pairs=len(rounds), dropped=dropped, all={**medians, **hopeless})

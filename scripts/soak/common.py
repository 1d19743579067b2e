"""What the soaks share: a small run, faults to put into it, and what it must be like at the end.

A soak is killable at any moment: what it starts ends with it, and its files are in one folder, in
memory where there is a place for that, which goes at the end."""
import atexit
import concurrent.futures
import ctypes
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("LATHE_BUILD", ROOT / "build"))
LATHE = pathlib.Path(os.environ.get("LATHE_BINARY", BUILD / "lathe"))
FAULT_SHIM = BUILD / "tests/fault_shim/fault_shim.so"
DISK_STATES = BUILD / "tests/disk_states/disk_states"
JOBS = os.cpu_count() or 1
# Longer than any run here takes on a busy machine: one that hangs must not stop the soak.
TIMEOUT = 120

RUNNING = weakref.WeakSet()  # what start() has started

# One block of 8 channels: a step and a save take about a millisecond each.
SMALL = ["--layers", "1", "--heads", "1", "--channels", "8", "--seq-len", "16",
         "--micro-batch", "2", "--batch-tokens", "32", "--threads", "1", "--val-tokens", "64",
         "--quiet"]


class Scratch:
    """A folder for the soak's files, gone when Python ends, whatever ends it but kill -9."""

    def __init__(self):
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="lathe-soak-", dir=memory))
        atexit.register(shutil.rmtree, self.path, ignore_errors=True)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, lambda number, _: os._exit(self._leave(number)))
        self._count = 0
        self._lock = threading.Lock()

    def _leave(self, number):
        """Other threads go on until the process ends: without a folder they begin nothing new."""
        gone = self.path.with_name(self.path.name + ".gone")
        self.path.rename(gone)
        for process in list(RUNNING):
            process.kill()
            process.wait()
        for path in (self.path, gone):
            shutil.rmtree(path, ignore_errors=True)
        return 128 + number

    def folder(self):
        with self._lock:
            self._count += 1
            path = self.path / str(self._count)
        path.mkdir()
        return path


def end_with_parent():
    """In a child: it is killed when the soak is."""
    death_signal = 1  # PR_SET_PDEATHSIG
    ctypes.CDLL(None).prctl(death_signal, signal.SIGKILL)


def environment(faults=None):
    """Ours without options of Lathe, with the shim when there is something for it to do."""
    result = {name: value for name, value in os.environ.items()
              if not name.startswith(("LATHE_", "FAULT_SHIM_"))}
    result["OMP_WAIT_POLICY"] = "passive"
    if faults is not None:
        result["LD_PRELOAD"] = str(FAULT_SHIM)
        result.update({"FAULT_SHIM_" + name.upper(): str(value) for name, value in faults.items()})
    return result


def start(arguments, faults=None, launcher=(), **options):
    """A lathe that has started; its output goes nowhere. `launcher`: the words before it."""
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **options}
    process = subprocess.Popen([*launcher, LATHE, *map(str, arguments)], env=environment(faults),
                               stdin=subprocess.DEVNULL, preexec_fn=end_with_parent, **options)
    RUNNING.add(process)
    return process


class Ended:
    """How a lathe ended: its exit code, -N of one that signal N ended, and its last words."""

    def __init__(self, code, said):
        self.code = code
        self.said = said

    def __str__(self):
        lines = self.said.strip().splitlines()
        return f"exit code {self.code}" + (f": {lines[-1]}" if lines else "")


def run(arguments, faults=None, launcher=()):
    process = start(arguments, faults, launcher, stderr=subprocess.PIPE)
    try:
        said = process.communicate(timeout=TIMEOUT)[1].decode(errors="replace")
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return Ended(None, f"still running after {TIMEOUT} s")
    return Ended(process.returncode, said)


def metrics(run_folder):
    """The lines of metrics.jsonl but for what depends on time, and on how often a run went on."""
    lines = []
    for line in (run_folder / "metrics.jsonl").read_text().splitlines():
        values = {name: value for name, value in json.loads(line).items()
                  if not name.startswith("perf/")}
        if "event" not in values:
            lines.append(values)
    return lines


def result(run_folder):
    return json.loads((run_folder / "result.json").read_text())


def steps_saved(run_folder):
    return sorted(int(path.name[len("step-"):])
                  for path in (run_folder / "checkpoints").glob("step-*"))


def tensors(run_folder, step):
    folder = run_folder / "checkpoints" / f"step-{step:08}"
    return [(folder / name).read_bytes() for name in ("model.safetensors", "optimizer.safetensors")]


class Unbroken:
    """A run that nothing interrupts, to compare with."""

    def __init__(self, scratch, options, steps, launcher=()):
        self.options = [*SMALL, *options, "--steps", str(steps)]
        self.steps = steps
        self.launcher = launcher
        self.folder = scratch.folder() / "run"
        ended = run(["train", *self.options, "--out", self.folder], launcher=launcher)
        if ended.code != 0:
            sys.exit(f"the unbroken run: {ended}")
        self.tensors = tensors(self.folder, steps)
        self.metrics = metrics(self.folder)

    def train(self, folder, *more):
        """Arguments of the same run in another folder."""
        return ["train", *self.options, "--out", folder, *more]

    def difference(self, folder):
        """What of a run that went the same way to its end is not the same; "" when all is."""
        try:
            if tensors(folder, self.steps) != self.tensors:
                return "final weights or optimizer differ"
            found = metrics(folder)
        except (OSError, ValueError) as error:
            return f"{type(error).__name__}: {error}"
        if found == self.metrics:
            return ""
        both = zip(found, self.metrics)
        at = next((i for i, (a, b) in enumerate(both) if a != b), min(len(found), len(self.metrics)))
        return (f"metrics.jsonl differs at line {at + 1}: {found[at:at + 1]}, "
                f"must be {self.metrics[at:at + 1]}")

    def finish(self, folder):
        """Goes on with a broken run to its end; what is wrong with that, or ""."""
        ended = run(self.train(folder, "--resume=auto"), launcher=self.launcher)
        if ended.code != 0:
            return f"resume: {ended}"
        return self.difference(folder)


class Tally:
    """Counts cases, says what went wrong, and ends with "passed N of M"."""

    def __init__(self, expected=None):
        self.expected = expected  # cases, for the lines between
        self.passed = self.all = 0
        self.kinds = {}
        self._lock = threading.Lock()
        self._began = self._told = time.monotonic()

    def add(self, name, problem, kind=None):
        with self._lock:
            self.all += 1
            if kind is not None:
                self._count(kind)
            if problem:
                print(f"FAILED {name}: {problem}", flush=True)
            else:
                self.passed += 1
            if time.monotonic() - self._told > 20:
                self._told = time.monotonic()
                print(f"... {self.all} of {self.expected or '?'} cases", flush=True)

    def note(self, kind, count=1):
        """Counts what is told at the end and is no case."""
        with self._lock:
            self._count(kind, count)

    def _count(self, kind, count=1):
        self.kinds[kind] = self.kinds.get(kind, 0) + count

    def finish(self, least=1):
        for kind, count in sorted(self.kinds.items()):
            print(f"{kind}: {count}")
        print(f"{time.monotonic() - self._began:.0f} s")
        print(f"passed {self.passed} of {self.all}", flush=True)
        if self.all < least:
            print(f"of at least {least} cases, {self.all} were made", file=sys.stderr)
        return 0 if self.passed == self.all >= least else 1


def each(cases, do):
    """do(case) for each, as many at once as there are processors."""
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        for _ in pool.map(do, cases):
            pass


def number(default):
    """The script's argument."""
    try:
        value = int(sys.argv[1]) if len(sys.argv) > 1 else default
    except ValueError:
        value = 0
    if value < 1 or len(sys.argv) > 2:
        sys.exit(f"{sys.argv[0]} [N]: N must be a number from 1 on; {default} if not given")
    return value


def require_built():
    missing = [path for path in (LATHE, FAULT_SHIM, DISK_STATES) if not path.exists()]
    if missing:
        sys.exit(f"{missing[0]}: is not there; build first: cmake --preset release "
                 "-DLATHE_BUILD_TESTS=ON && cmake --build build")


def calls(trace):
    """The records of a trace of tests/fault_shim: numbers, operation, paths, and all its bytes."""
    text = trace.read_bytes()
    at = 0
    while at < len(text):
        begin, end = at, text.index(b"\n", at)
        fields = text[begin:end].decode().split("\t")
        at = end + 1 + int(fields[6])
        yield {"number": int(fields[0]), "result": int(fields[1]), "flags": int(fields[4]),
               "operation": fields[7], "path": fields[8], "other_path": fields[9],
               "record": text[begin:at]}

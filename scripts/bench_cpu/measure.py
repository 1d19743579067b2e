"""Both sides in turns: each round runs Lathe, then PyTorch in each of its settings that is in question."""
import dataclasses
import json
import statistics
import subprocess

import cases
import machine
import processes
from cases import Sampling, StartUp

# A setting of PyTorch that is slower than this, relative to the fastest, is not run again.
HOPELESS = 1.25


@dataclasses.dataclass(frozen=True)
class Setting:
    compiled: bool
    recomputed: bool = False

    def __str__(self):
        return ("compiled" if self.compiled else "eager") + (", recomputed" if self.recomputed else "")


@dataclasses.dataclass
class Measured:
    """One run. `outcome`: what both sides must agree on."""
    seconds: float
    peak_bytes: int
    outcome: object


class PyTorch:
    def __init__(self, python, script, work, threads, clock):
        self.python, self.script, self.work, self.threads, self.clock = python, script, work, threads, clock
        self.sizes = None  # of the model in `work`

    def _command(self, what, *arguments):
        return [self.python, self.script, what, *arguments]

    def write_model(self, sizes):
        if sizes == self.sizes:
            return
        self.sizes = sizes
        subprocess.run(self._command("write", self.work, json.dumps(dataclasses.asdict(sizes))), check=True)

    def versions(self):
        return json.loads(subprocess.run(self._command("versions"), check=True, capture_output=True).stdout)

    def run(self, what, case, precision, setting, **more):
        told = {"sizes": dataclasses.asdict(case.sizes), "precision": precision, "threads": self.threads,
                "compile": setting.compiled, "recompute": setting.recomputed, "optimizer": cases.OPTIMIZER, **more}
        threads = {"OMP_NUM_THREADS": str(self.threads), "TORCHINDUCTOR_CACHE_DIR": str(self.work.parent / "inductor"),
                   "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
        return processes.Watched(self._command(what, self.work, json.dumps(told)), threads, self.clock, more.get("steps"))


def settings_of(case):
    compiled = (False, True) if getattr(case, "compiled", False) else (False,)
    return [Setting(way, recomputed=getattr(case, "recompute", False)) for way in compiled]


def measured(case, watched, tokens_of):
    """What a run came to. `tokens_of`: the tokens of each sample, from what a program says of them."""
    if isinstance(case, Sampling):
        said = json.loads(watched.other_lines[-1])
        return Measured(said["seconds"] / (case.samples * case.tokens), watched.peak_bytes, tokens_of(said))
    starts = isinstance(case, StartUp)
    seconds = watched.seconds_at[1] if starts else statistics.median(watched.seconds_per_step())
    return Measured(seconds, watched.peak_bytes, watched.losses)


def run_lathe(lathe, case, precision):
    if isinstance(case, Sampling):
        watched = lathe.sample(case, precision)
    else:
        watched = lathe.start(case) if isinstance(case, StartUp) else lathe.train(case, precision)
    return measured(case, watched, lambda said: [sample["tokens"] for sample in said["samples"]])


def run_pytorch(pytorch, case, precision, setting):
    if isinstance(case, Sampling):
        watched = pytorch.run("sample", case, precision, setting, samples=case.samples, tokens=case.tokens,
                              prompt_tokens=case.prompt_tokens)
    else:
        steps, part = (1, 1) if isinstance(case, StartUp) else (case.steps(), case.steps_of_part)
        if isinstance(case, StartUp):
            machine.bring_back_memory()
        watched = pytorch.run("train", case, precision, setting, rows=case.rows, seq_len=case.seq_len, steps=steps,
                              steps_of_part=part)
    return measured(case, watched, lambda said: said["tokens"])


def agree(case, precision, ours, theirs):
    """Whether both did the same. Greedy tokens of bf16 are not compared: rounding decides between near ones."""
    if isinstance(case, Sampling):
        return ours == theirs if precision == "fp32" else None
    tolerance = cases.LOSS_TOLERANCE[precision]
    return ours.keys() == theirs.keys() and all(
        abs(ours[step] - theirs[step]) <= tolerance * abs(theirs[step]) for step in theirs)


def run_rounds(sides, case, precision, rounds, say):
    """Runs of Lathe, those of each setting, and why a setting has none."""
    lathe, pytorch = sides
    ours, theirs, failed = [], {setting: [] for setting in settings_of(case)}, {}
    for _ in range(rounds):
        ours.append(run_lathe(lathe, case, precision))
        for setting in list(theirs):
            try:
                theirs[setting].append(run_pytorch(pytorch, case, precision, setting))
            except processes.Failed as failure:
                failed[str(setting)] = str(failure)
                del theirs[setting]
        if not theirs:
            raise processes.Failed(f"no setting of PyTorch ran: {failed}")
        fastest = min(runs[-1].seconds for runs in theirs.values())
        say(f"  {precision}: Lathe {ours[-1].seconds:.4g} s, PyTorch {fastest:.4g} s")
        theirs = {setting: runs for setting, runs in theirs.items() if runs[-1].seconds <= HOPELESS * fastest}
    return ours, theirs, failed


def summary(runs):
    seconds = [run.seconds for run in runs]
    middle = statistics.median(seconds)
    return {"seconds": middle, "rounds": seconds, "spread": max(abs(s - middle) for s in seconds) / middle,
            "peak_bytes": max(run.peak_bytes for run in runs)}


def last_loss(case, run):
    return None if isinstance(case, Sampling) else list(run.outcome.values())[-1]


def measure(sides, case, precision, rounds, say):
    """A row of the table."""
    ours, theirs, failed = run_rounds(sides, case, precision, rounds, say)
    # Those that ran to the end; one may have been dropped late.
    best = min(theirs, key=lambda setting: statistics.median(run.seconds for run in theirs[setting]))
    ratios = [p.seconds / l.seconds for l, p in zip(ours, theirs[best])]
    return {"title": case.title, "kind": type(case).__name__, "precision": precision, "lathe": summary(ours),
            "pytorch": {str(setting): summary(runs) for setting, runs in theirs.items()}, "failed": failed,
            "setting": str(best), "ratio": statistics.median(ratios), "ratios": ratios,
            "agree": agree(case, precision, ours[0].outcome, theirs[best][0].outcome),
            "loss": [last_loss(case, ours[0]), last_loss(case, theirs[best][0])]}


def precisions_of(case):
    return ("fp32",) if isinstance(case, StartUp) else cases.PRECISIONS

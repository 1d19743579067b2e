"""Sends a run each signal that asks it to stop, in each phase, at several moments. See signals.sh."""
import itertools
import json
import pathlib
import random
import shutil
import signal
import subprocess
import time

from common import (SMALL, TIMEOUT, Scratch, Tally, number, require_built, result, run, start,
                    steps_saved)

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP,
           signal.SIGXCPU)
LIMIT = 2.0  # seconds from the signal to the end
ENDLESS = ["--steps", "1000000"]


def sized(layers, channels):
    """SMALL with another model; the last of two values counts."""
    return [*SMALL, "--layers", str(layers), "--heads", "1", "--channels", str(channels)]


def steps_trained(folder):
    """Whole lines of metrics.jsonl so far, as the steps of its training lines."""
    try:
        lines = (folder / "metrics.jsonl").read_text().split("\n")[:-1]
    except OSError:
        return []
    values = [json.loads(line) for line in lines]
    return [line["step"] for line in values if "train/loss" in line]


def watches(process, number):
    """Whether the process handles the signal already."""
    try:
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return False
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), "0")
    return bool(int(caught, 16) >> (number - 1) & 1)


class Inputs:
    """What several cases read: a text and a tokenizer that takes a while for it, a run to resume."""

    def __init__(self, scratch):
        self.folder = scratch.folder()
        chance = random.Random(1)
        words = ["".join(chance.choices("abcdefghijklmnop", k=chance.randint(2, 9)))
                 for _ in range(5000)]
        lines = (" ".join(chance.choices(words, k=12)) for _ in range(400_000))
        self.text = self.folder / "text.txt"
        self.text.write_text("\n".join(lines))
        small = self.folder / "small.txt"
        small.write_text(self.text.read_text()[:100_000])
        self.tokenizer = self.folder / "tokenizer"
        self.run = self.folder / "run"
        for arguments in (["train-tokenizer", "--vocab", "512", "--out", self.tokenizer, small],
                          ["train", *SMALL, "--steps", "3", "--out", self.run]):
            ended = run(arguments)
            if ended.code != 0:
                raise SystemExit(f"{arguments[0]}: {ended}")


class Phase:
    """How a run is brought into a phase. `ready` says whether it is there; the signal comes
    `delays[i]` seconds later, or, with `faults`, at a call of its own."""

    def __init__(self, options, delays, ready=None, faults=None, steps=None, run_before=None,
                 is_in=lambda folder: True):
        self.options = options
        self.delays = delays
        self.ready = ready
        self.faults = faults
        self.steps = steps  # that the run must have made; None: any number above 0
        self.run_before = run_before  # that it goes on with
        self.is_in = is_in  # whether what the run left says that the signal came in this phase


def phases(inputs):
    has_step = lambda process, folder, number: bool(steps_trained(folder))
    has_three = lambda process, folder, number: len(steps_trained(folder)) >= 3
    handles = lambda process, folder, number: watches(process, number)
    opened = {"operations": "open", "path": "model.safetensors"}
    has_no = lambda text: lambda folder: text not in (folder / "metrics.jsonl").read_text()
    saving = {"operations": "write,fsync,rename", "path": ".partial-step-00000002"}
    return {
        "load": Phase([*SMALL, *ENDLESS, "--resume"], (1, 2, 3), faults=opened, steps=3,
                      run_before=inputs.run),
        "init": Phase([*sized(8, 512), *ENDLESS], (0.05, 0.1, 0.2), handles, steps=0),
        "tokenising": Phase([*SMALL, *ENDLESS, "--train", inputs.text, "--tokenizer",
                             inputs.tokenizer], (0.05, 0.1, 0.2), handles, steps=0,
                            is_in=lambda folder: "text.txt: stopped by" in
                            (folder / "log.txt").read_text()),
        "train": Phase([*SMALL, *ENDLESS, "--val-every", "1000000"], (0, 0.03, 0.1), has_three),
        "eval": Phase([*sized(1, 32), *ENDLESS, "--train", inputs.text, "--val-every", "1",
                       "--val-tokens", "1M"], (0.05, 0.1, 0.3), has_step, steps=1, is_in=has_no("val/loss")),
        "sampling": Phase([*sized(8, 512), *ENDLESS, "--sample-every", "1", "--val-every", "1000000"],
                          (0.1, 0.3, 0.5), has_step, steps=1,
                          is_in=lambda folder: not list((folder / "samples").glob("step-*"))),
        "saving": Phase([*SMALL, *ENDLESS, "--checkpoint-every", "2"], (1, 20, 40), faults=saving),
    }


def send(phase, delay, number, folder):
    """The run's exit code, the seconds from the signal to its end, and what it said."""
    arguments = ["train", *phase.options, "--out", folder]
    if phase.run_before is not None:
        shutil.copytree(phase.run_before, folder, symlinks=True)
    if phase.faults is not None:
        faults = {**phase.faults, "folder": folder, "kind": "signal", "signal": int(number),
                  "at": delay}
        began = time.monotonic()
        ended = run(arguments, faults)
        return ended.code, time.monotonic() - began, ended.said
    process = start(arguments, stderr=subprocess.PIPE)
    last = time.monotonic() + TIMEOUT
    while not phase.ready(process, folder, number):
        if process.poll() is not None or time.monotonic() > last:
            process.kill()
            return process.wait(), 0, "was never in this phase"
        time.sleep(0.002)
    time.sleep(delay)
    process.send_signal(number)
    began = time.monotonic()
    try:
        said = process.communicate(timeout=TIMEOUT)[1].decode(errors="replace")
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None, TIMEOUT, ""
    return process.returncode, time.monotonic() - began, said


def problem_of(phase, number, folder, outcome):
    code, seconds, said = outcome
    if code != 128 + number:
        return f"exit code {code}, must be {128 + number}: {said.strip()}"
    if seconds > LIMIT:
        return f"{seconds:.1f} s from the signal to the end"
    found = result(folder)
    told = {name: found[name] for name in ("status", "end_reason", "exit_code")}
    if told != {"status": "stopped", "end_reason": "signal", "exit_code": 128 + number}:
        return f"result.json: {told}"
    step = found["step"]
    is_expected = step >= 1 if phase.steps is None else step == phase.steps
    if not is_expected or not phase.is_in(folder):
        return f"the signal did not come in this phase: step {step}, {said.strip()}"
    trained = steps_trained(folder)
    if trained and trained[-1] != step:
        return f"metrics.jsonl ends with step {trained[-1]}, result.json says {step}"
    if step == 0:
        return ""
    if steps_saved(folder)[-1:] != [step]:
        return f"stopped after step {step}, saved {steps_saved(folder)}"
    verified = run(["verify", folder])
    return "" if verified.code == 0 else f"verify: {verified}"


def main(cases):
    require_built()
    scratch = Scratch()
    inputs = Inputs(scratch)
    by_name = phases(inputs)
    # The phases alternate: a few cases are of many.
    moments = itertools.product(range(3), SIGNALS)
    all_cases = [(name, number, moment) for moment, number in moments for name in by_name][:cases]
    tally = Tally(len(all_cases))
    slowest = 0
    for name, number, moment in all_cases:  # one at a time: how long it takes is looked at
        folder = scratch.folder() / "run"
        phase = by_name[name]
        outcome = send(phase, phase.delays[moment], number, folder)
        slowest = max(slowest, outcome[1])
        tally.add(f"{signal.Signals(number).name} while {name}, moment {moment}",
                  problem_of(phase, number, folder, outcome), name)
        shutil.rmtree(folder.parent)
    print(f"slowest: {slowest:.2f} s from the signal to the end")
    return tally.finish(least=len(all_cases))


if __name__ == "__main__":
    raise SystemExit(main(number(126)))

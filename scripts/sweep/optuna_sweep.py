#!/usr/bin/env python3
"""Optuna over lathe train: looks for the options of the lowest validation loss.

  scripts/install_from_pypi.sh optuna
  build/optuna/bin/python scripts/sweep/optuna_sweep.py OUT --trials 30 OPTIONS...

  ... optuna_sweep.py runs/optuna --train book.txt --steps 2000 --val-every 100 --stop-if 'val_loss>3@500'

OPTIONS are those of lathe train, the same for all trials; SPACE below says what is tried. A trial is the run
OUT/trial-0003, and the study is OUT/optuna.db. Started again, with the same options, it goes on where it was
stopped, and tries what it would have tried: one process at a time for each study.

Exit codes of lathe: after 0 the trial counts with its best_val_loss, also where --stop-if has ended it; after
7 (diverged) as infinitely bad; with any other one (143: a signal, 124: --max-time, 2: wrong options) the
sweep ends, and the trial is resumed by the next start. Prints the best trial as JSON. LATHE_BINARY names the
lathe.
"""
import argparse
import json
import math
import os
import pathlib
import signal
import subprocess
import sys

import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

# By the names of lathe's options.
SPACE = {
    "lr": FloatDistribution(1e-4, 3e-2, log=True),
    "weight-decay": FloatDistribution(1e-3, 0.3, log=True),
    "beta2": FloatDistribution(0.9, 0.999),
}
DIVERGED = 7
LATHE = os.environ.get("LATHE_BINARY", pathlib.Path(__file__).resolve().parents[2] / "build/lathe")


def parse_arguments():
    parser = argparse.ArgumentParser(allow_abbrev=False, usage="optuna_sweep.py OUT [--trials N] OPTIONS...")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--sampler-seed", type=int, default=1)
    return parser.parse_known_args()


def next_trial(study, sampler_seed):
    """Number and options of the trial that an earlier start has left, or of a new one."""
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        if trial.params.keys() == SPACE.keys():
            return trial.number, trial.params
        study.tell(trial.number, state=TrialState.FAIL)  # killed while it was being made
    # A sampler of its own for each trial: what is tried depends on the trials before and not on how often the
    # sweep was started.
    told = len(study.get_trials(states=[TrialState.COMPLETE]))
    study.sampler = optuna.samplers.TPESampler(seed=sampler_seed + told)
    trial = study.ask(SPACE)
    return trial.number, trial.params


class Runner:
    """Runs lathe. A signal to this process stops it, after saving, and what began it."""

    def __init__(self):
        self.process = None
        self.signal = None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.stop)

    def stop(self, number, _frame):
        self.signal = number
        if self.process is not None:
            self.process.terminate()

    def run(self, arguments):
        """The exit code. Not 0 when there was a signal, so that nothing else begins."""
        if self.signal is None:
            self.process = subprocess.Popen([LATHE, *arguments], stdout=sys.stderr)
            if self.signal is not None:
                self.process.terminate()
            code = self.process.wait()
            self.process = None
            if code < 0:
                return 128 - code
            if code != 0 or self.signal is None:
                return code
        return 128 + self.signal


def loss_of(run, code):
    if code == DIVERGED:
        return math.inf
    loss = json.loads((run / "result.json").read_text())["best_val_loss"]
    if loss is None:
        sys.exit(f"optuna_sweep.py: {run} has no validation loss; give --val")
    return loss


def main():
    arguments, options = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(study_name="lathe", storage=f"sqlite:///{arguments.out / 'optuna.db'}",
                                direction="minimize", load_if_exists=True)
    runner = Runner()
    while len(study.get_trials(states=[TrialState.COMPLETE])) < arguments.trials:
        number, tried = next_trial(study, arguments.sampler_seed)
        name = f"trial-{number:04}"
        code = runner.run(["train", *options, "--out", arguments.out, "--name", name, "--resume=auto",
                           *(f"--{option}={value!r}" for option, value in tried.items())])
        if code not in (0, DIVERGED):
            print(f"optuna_sweep.py: stopped at {name}, exit code {code}; start again to go on",
                  file=sys.stderr)
            sys.exit(code)
        study.tell(number, loss_of(arguments.out / name, code))
    best = study.best_trial
    print(json.dumps({"trial": best.number, "best_val_loss": best.value, "options": best.params}))


if __name__ == "__main__":
    main()

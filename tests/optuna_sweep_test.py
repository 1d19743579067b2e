#!/usr/bin/env python3
"""scripts/sweep/optuna_sweep.py: a study that was stopped goes on to the same end, and each exit code has its
effect on the trial.

Runs itself again under a Python that has Optuna: LATHE_OPTUNA_PYTHON, build/optuna (made by
scripts/install_from_pypi.sh optuna) or the one it was started with. Where none has it, says so and exits
with 77.
"""
import python_packages

python_packages.require("optuna", folder="optuna", script="scripts/install_from_pypi.sh optuna",
                        variable="LATHE_OPTUNA_PYTHON")

import json
import math
import signal
import sys
import unittest

import optuna

from sweep_runs import LATHE, SCRIPTS, TINY, Sweeps

optuna.logging.set_verbosity(optuna.logging.WARNING)


class OptunaSweep(Sweeps):
    TRIALS = 4

    def sweep(self, out):
        return [sys.executable, SCRIPTS / "optuna_sweep.py", out, f"--trials={self.TRIALS}", *TINY]

    def trials(self, out):
        """(state, value, options) of each, as Optuna has them."""
        study = optuna.load_study(study_name=None, storage=f"sqlite:///{self.folder}/{out}/optuna.db")
        return [(trial.state.name, trial.value, trial.params) for trial in study.trials]

    def test_a_stopped_sweep_goes_on_and_finds_the_same(self):
        best = json.loads(self.run_to_end(*self.sweep("unbroken"))[0])
        trials = self.trials("unbroken")
        values = [self.result(f"unbroken/trial-{number:04}")["best_val_loss"] for number in range(self.TRIALS)]
        self.assertEqual([value for _, value, _ in trials], values)
        self.assertEqual((best["best_val_loss"], best["options"]), (min(values), trials[best["trial"]][2]))
        self.assertEqual(len({options["lr"] for _, _, options in trials}), self.TRIALS)

        for begun, number in ((1, signal.SIGTERM), (2, signal.SIGINT)):
            process = self.start(*self.sweep("broken"))
            self.wait_for_checkpoints(f"broken/trial-{begun:04}")
            process.send_signal(number)
            _, err = self.finish(process, 143)
            self.assertIn(f"stopped at trial-{begun:04}, exit code 143; start again to go on", err)
            self.assertEqual([state for state, *_ in self.trials("broken")], ["COMPLETE"] * begun + ["RUNNING"])
        self.assertEqual(json.loads(self.run_to_end(*self.sweep("broken"))[0]), best)
        self.assertEqual(self.trials("broken"), trials)
        self.assertEqual([self.environment_of(f"broken/trial-{n:04}")["session"] for n in range(4)], [1, 2, 2, 1])

    def test_exit_codes_say_what_becomes_of_a_trial(self):
        lathe = self.program("lathe", f'case "$*" in\n'
                             f'  *trial-0001*) set -- "$@" --lr=1e30 ;;\n'
                             f'  *trial-0002*) set -- "$@" --stop-if "val_loss>0@1" ;;\n'
                             f'  *trial-0003*) set -- "$@" ${{MORE:-}} ;;\n'
                             f'esac\n'
                             f'exec {LATHE} "$@"')
        words = [*self.sweep("out"), "--steps=600"]
        self.run_to_end(*words, code=2, LATHE_BINARY=str(lathe), MORE="--lr-schedule=step")
        trials = self.trials("out")
        self.assertEqual([state for state, *_ in trials], ["COMPLETE"] * 3 + ["RUNNING"])
        self.assertEqual(trials[1][1], math.inf)
        self.assertEqual(self.result("out/trial-0002")["end_reason"], "stop_if")
        self.assertEqual(trials[2][1], self.result("out/trial-0002")["best_val_loss"])
        self.run_to_end(*words, code=124, LATHE_BINARY=str(lathe), MORE="--max-time=0.01")
        best = json.loads(self.run_to_end(*words, LATHE_BINARY=str(lathe))[0])
        self.assertEqual([state for state, *_ in self.trials("out")], ["COMPLETE"] * 4)
        self.assertNotEqual(best["trial"], 1)


if __name__ == "__main__":
    unittest.main()

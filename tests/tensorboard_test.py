#!/usr/bin/env python3
"""What TensorBoard reads from a run's event files is what metrics.jsonl says, in new runs and in such as
were killed, set back and resumed.

Runs itself again under a Python that has tensorboard: LATHE_TENSORBOARD_PYTHON, build/tensorboard (made
by scripts/install_from_pypi.sh tensorboard) or the one it was started with. Where none has it, says so and
exits with 77.
"""
import json
import math
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile

import python_packages

python_packages.require("tensorboard", folder="tensorboard", script="scripts/install_from_pypi.sh tensorboard",
                        variable="LATHE_TENSORBOARD_PYTHON")

import logging
import unittest

from tensorboard.backend.event_processing import event_accumulator, event_file_loader, plugin_event_multiplexer
from tensorboard.compat.proto import event_pb2
from tensorboard.util import tensor_util

LATHE = os.environ["LATHE_BINARY"]
logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of each restart


def as_float32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def metrics_of(run):
    """(step, value as TensorBoard has it) by name, from metrics.jsonl."""
    metrics = {}
    for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()):
        step = line.pop("step")
        for name, value in line.items():
            if name == "event":
                continue
            value = math.nan if value is None else float(value)
            metrics.setdefault(name, []).append((step, as_float32(value)))
    return metrics


class TensorBoard(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.run_folder = self.folder / "run"
        (self.folder / "text.txt").write_text("".join(f"line {i * i} of the text\n" for i in range(400)))

    def train(self, *more):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LATHE_")}
        sizes = [] if "--resume" in more else [
            "--train", str(self.folder / "text.txt"), "--layers=1", "--heads=2", "--channels=16",
            "--context=16", "--micro-batch=2", "--steps=12", "--val-every=3", "--val-tokens=64",
            "--checkpoint-every=3", "--keep=0", "--device=cpu"]
        done = subprocess.run([LATHE, "train", "--quiet", "--out", str(self.run_folder), *sizes, *more],
                              capture_output=True, text=True, env=environment)
        self.assertEqual(done.returncode, 0, done.stderr)

    def go_back_to(self, step):
        """As if the run had been killed after its last step and before the saves behind `step`."""
        for folder in (self.run_folder / "checkpoints").glob("step-*"):
            if int(folder.name[len("step-"):]) > step:
                shutil.rmtree(folder)

    def expect_what_metrics_say(self):
        expected = metrics_of(self.run_folder)
        self.assertEqual(len(expected["train/loss"]), 12)
        events = str(self.run_folder / "tensorboard")
        scalars = event_accumulator.EventAccumulator(events, size_guidance={event_accumulator.SCALARS: 0})
        scalars.Reload()
        self.assertEqual({name: [(e.step, e.value) for e in scalars.Scalars(name)]
                          for name in scalars.Tags()["scalars"]}, expected)
        # The way of TensorBoard's own pages.
        runs = plugin_event_multiplexer.EventMultiplexer(tensor_size_guidance={"scalars": 0})
        runs.AddRunsFromDirectory(str(self.folder))
        runs.Reload()
        self.assertEqual(list(runs.Runs()), ["run/tensorboard"])
        tensors = {name: [(e.step, float(tensor_util.make_ndarray(e.tensor_proto)))
                          for e in runs.Tensors("run/tensorboard", name)]
                   for name in runs.Runs()["run/tensorboard"]["tensors"]}
        self.assertEqual(tensors, expected)

    def events(self):
        """Of each event file, in order."""
        return [list(event_file_loader.LegacyEventFileLoader(str(path)).Load())
                for path in sorted((self.run_folder / "tensorboard").iterdir())]

    def test_a_new_run(self):
        self.train("--tensorboard")
        self.expect_what_metrics_say()
        (events,) = self.events()
        self.assertEqual(events[0].file_version, "brain.Event:2")
        self.assertEqual(len(events), 2 + 12 + 4)

    def test_resumed_runs_drop_what_was_logged_past_the_step(self):
        self.train("--tensorboard", "--stop-at-step=8")
        self.go_back_to(6)
        self.train("--tensorboard", "--resume", "--stop-at-step=11")
        self.go_back_to(9)
        self.train("--resume")
        self.expect_what_metrics_say()
        files = self.events()
        self.assertEqual(len(files), 3)
        for events, step in zip(files, (0, 6, 9)):
            self.assertEqual(events[1].session_log.status, event_pb2.SessionLog.START)
            self.assertEqual(events[1].step, step)

    def test_switched_on_later_has_the_beginning_too(self):
        self.train("--stop-at-step=5")
        self.assertFalse((self.run_folder / "tensorboard").exists())
        self.train("--resume", "--tensorboard")
        self.expect_what_metrics_say()

    def test_a_record_cut_by_a_kill_is_passed_over(self):
        self.train("--tensorboard", "--stop-at-step=6")
        (path,) = (self.run_folder / "tensorboard").iterdir()
        with open(path, "ab") as file:
            file.write(path.read_bytes()[-70:-20])
        self.train("--resume")
        self.expect_what_metrics_say()

    def test_a_new_run_in_its_place_starts_anew(self):
        self.train("--tensorboard", "--seed=1")
        self.train("--tensorboard", "--seed=2", "--overwrite")
        self.expect_what_metrics_say()
        self.assertEqual(len(self.events()), 1)


if __name__ == "__main__":
    unittest.main()

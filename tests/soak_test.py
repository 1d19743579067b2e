#!/usr/bin/env python3
"""That the soaks can fail: each is given what it has to find."""
import os
import pathlib
import subprocess
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "scripts/soak"))
import common
import power_loss


def is_sync_of(name):
    """Of files and folders of that name."""
    return lambda call: call["operation"] == "fsync" and pathlib.Path(call["path"]).name == name


class PowerLossTest(unittest.TestCase):
    """A run that did not sync what it should would lose checkpoints; the model disk shows it."""

    @classmethod
    def setUpClass(cls):
        cls.scratch = common.Scratch()
        unbroken = common.Unbroken(cls.scratch, power_loss.OPTIONS, power_loss.STEPS)
        cls.root, cls.trace = power_loss.record(cls.scratch, unbroken)

    def check_without(self, is_left_out):
        left = self.scratch.path / "left"
        records = [call["record"] for call in common.calls(self.trace) if not is_left_out(call)]
        left.write_bytes(b"".join(records))
        found = subprocess.run(
            [common.DISK_STATES, "power_loss", left, self.root, "600", "1", self.scratch.folder(),
             self.scratch.folder(), "0"], stdout=subprocess.PIPE, text=True, check=False)
        return found.returncode, found.stdout

    def test_the_run_as_it_is(self):
        code, said = self.check_without(lambda call: False)
        self.assertEqual(code, 0, said)
        self.assertRegex(said, r"passed (\d+) of \1\n")

    def test_files_that_are_not_synced(self):
        for name in ("model.safetensors", "optimizer.safetensors", "state.json"):
            code, said = self.check_without(is_sync_of(name))
            self.assertEqual(code, 1, f"{name}: {said}")

    def test_folders_that_are_not_synced(self):
        """Of a checkpoint's own folder under its first name, and of that which holds its last."""
        for name in (".partial-step-00000002", "checkpoints"):
            code, said = self.check_without(is_sync_of(name))
            self.assertEqual(code, 1, f"{name}: {said}")

    def test_a_trace_that_misses_a_call(self):
        code, said = self.check_without(lambda call: call["operation"] == "mkdir")
        self.assertEqual(code, 2, said)


class ShimTest(unittest.TestCase):
    """What the shim does to a run."""

    def setUp(self):
        self.scratch = common.Scratch()
        self.folder = self.scratch.folder()

    def train(self, **faults):
        arguments = ["train", *common.SMALL, "--steps", "2", "--save-retries", "0", "--out",
                     self.folder / "run"]
        return common.run(arguments, {"folder": self.folder, **faults})

    def test_kills_before_and_after(self):
        rename = {"operations": "rename", "path": "step-00000002", "at": 1}
        self.assertEqual(self.train(kind="kill_before", **rename).code, -9)
        self.assertEqual(common.steps_saved(self.folder / "run"), [])
        self.assertEqual(self.train(kind="kill_after", **rename).code, 2, "there is a run already")
        self.folder = self.scratch.folder()
        self.assertEqual(self.train(kind="kill_after", **rename).code, -9)
        self.assertEqual(common.steps_saved(self.folder / "run"), [2])

    def test_fails_calls(self):
        ended = self.train(kind="error", operations="fsync", path="model.safetensors", at=1, errno=28)
        self.assertEqual(ended.code, 6)
        self.assertIn("No space left on device", ended.said)

    def test_shortens_writes(self):
        self.assertEqual(self.train(kind="short", bytes=3, at=1, calls=1000).code, 0)
        whole = common.run(["verify", self.folder / "run"])
        self.assertEqual(whole.code, 0, whole)


if __name__ == "__main__":
    for path in (common.LATHE, common.FAULT_SHIM, common.DISK_STATES):
        if not path.exists():
            print(f"{os.path.basename(__file__)}: skipped: {path} was not built")
            sys.exit(77)
    unittest.main()

"""What the tests of scripts/sweep/ share: small runs that a script makes, and how they are."""
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time
import unittest

SCRIPTS = pathlib.Path(__file__).resolve().parent.parent / "scripts/sweep"
LATHE = os.environ["LATHE_BINARY"]
STEPS = 600  # long enough to be caught in the middle
TINY = ["--layers=1", "--heads=1", "--channels=8", "--context=8", "--micro-batch=1", f"--steps={STEPS}",
        "--val-every=200", "--val-tokens=64", "--checkpoint-every=200", "--quiet", "--on-nonfinite=stop",
        "--lr-schedule=constant", "--warmup-steps=0"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("LATHE_", "SLURM_"))}
ENVIRONMENT |= {"LATHE_BINARY": LATHE, "OMP_WAIT_POLICY": "passive"}


class Sweeps(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)

    def start(self, *words, **environment):
        """The script of that name, or any command."""
        command = [SCRIPTS / words[0] if words[0].endswith(".sh") else words[0], *words[1:]]
        process = subprocess.Popen(list(map(str, command)), cwd=self.folder, env=ENVIRONMENT | environment,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   start_new_session=True)
        self.addCleanup(self.end, process)
        return process

    @staticmethod
    def end(process):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.communicate()

    def finish(self, process, code=0):
        """What it printed, on stdout and stderr."""
        out, err = process.communicate(timeout=100)
        self.assertEqual(process.returncode, code, err)
        return out, err

    def run_to_end(self, *words, code=0, **environment):
        return self.finish(self.start(*words, **environment), code)

    def read(self, run, name):
        return (self.folder / run / name).read_text()

    def result(self, run):
        return json.loads(self.read(run, "result.json"))

    def environment_of(self, run):
        return json.loads(self.read(run, "env.json"))

    def weights(self, run):
        return (self.folder / run / f"checkpoints/step-{STEPS:08}/model.safetensors").read_bytes()

    def wait_for_checkpoints(self, *runs):
        """Until each of these runs has one."""
        until = time.monotonic() + 60
        while not all((self.folder / run / "checkpoints/step-00000200").exists() for run in runs):
            self.assertLess(time.monotonic(), until, f"{runs} have not begun")
            time.sleep(0.002)

    def program(self, name, text):
        """A stand-in for a program, on PATH in bin/."""
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/usr/bin/env bash\nset -u\n{text}\n")
        path.chmod(0o755)
        return path

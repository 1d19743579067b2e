#!/usr/bin/env python3
"""Of scripts/bench_cpu.sh: what it makes of runs, and that it runs, where there is PyTorch."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest
import unittest.mock

SCRIPTS = pathlib.Path(__file__).resolve().parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS / "bench_cpu"))
import cases  # noqa: E402
import measure  # noqa: E402
import processes  # noqa: E402

BUILD = pathlib.Path(os.environ["LATHE_BINARY"]).parent
PYTHON = os.environ.get("LATHE_PYTORCH", str(BUILD / "pytorch/bin/python"))
TRAINING = cases.SMOKE_CASES["a"][0]
SAMPLING = cases.SMOKE_CASES["f"][0]


def bench(*arguments, python=PYTHON):
    return subprocess.run([SCRIPTS / "bench_cpu.sh", *arguments], capture_output=True, text=True, check=False,
                          timeout=280, env=os.environ | {"LATHE_PYTORCH": python, "OMP_WAIT_POLICY": "passive"})


def has_pytorch():
    return os.path.exists(PYTHON) and subprocess.run([PYTHON, "-c", "import torch, transformers"], check=False,
                                                     capture_output=True).returncode == 0


class Sides:
    """Both sides, with the times that they are given in turns."""

    def __init__(self, test, lathe, pytorch):
        self.taken = {name: iter(times) for name, times in {"lathe": lathe, **pytorch}.items()}
        self.runs = []
        test.enterContext(unittest.mock.patch.object(
            measure, "run_lathe", lambda lathe, case, precision: self.take("lathe")))
        test.enterContext(unittest.mock.patch.object(
            measure, "run_pytorch", lambda pytorch, case, precision, setting: self.take(str(setting))))

    def take(self, name):
        self.runs.append(name)
        seconds = next(self.taken[name])
        if seconds is None:
            raise processes.Failed("no compiler")
        return measure.Measured(seconds, 1000, {1: 2.0})


class MeasureTest(unittest.TestCase):
    def measure(self, rounds, **sides):
        self.sides = Sides(self, **sides)
        case = cases.Training("", cases.SMALL, rows=1, seq_len=1, parts=2)
        return measure.measure((None, None), case, "fp32", rounds, say=lambda line: None)

    def test_the_better_setting_counts_and_ratios_are_of_the_same_round(self):
        row = self.measure(3, lathe=[1, 2, 4], pytorch={"eager": [2.2, 4.4, 8.8], "compiled": [2, 4, 10]})
        self.assertEqual(self.sides.runs, ["lathe", "eager", "compiled"] * 3)
        self.assertEqual((row["setting"], row["ratios"], row["ratio"]), ("compiled", [2, 2, 2.5], 2))
        self.assertEqual(row["lathe"]["seconds"], 2)
        self.assertEqual(row["lathe"]["spread"], 1)  # 4 is twice the median

    def test_a_setting_far_behind_is_dropped_and_never_counts(self):
        row = self.measure(2, lathe=[1, 1], pytorch={"eager": [3, 3], "compiled": [9]})
        self.assertEqual(self.sides.runs, ["lathe", "eager", "compiled", "lathe", "eager"])
        self.assertEqual((row["setting"], list(row["pytorch"])), ("eager", ["eager"]))

    def test_a_setting_that_fails_is_said(self):
        row = self.measure(1, lathe=[1], pytorch={"eager": [3], "compiled": [None]})
        self.assertEqual((row["setting"], row["failed"]), ("eager", {"compiled": "no compiler"}))

    def test_without_any_setting_there_is_no_row(self):
        with self.assertRaisesRegex(processes.Failed, "no compiler"):
            self.measure(1, lathe=[1], pytorch={"eager": [None], "compiled": [None]})

    def test_losses_agree_up_to_rounding(self):
        def agree(ours, theirs, precision="fp32"):
            return measure.agree(TRAINING, precision, ours, theirs)
        self.assertTrue(agree({1: 5.0, 2: 4.0}, {1: 5.0, 2: 4.001}))
        self.assertFalse(agree({1: 5.0, 2: 4.0}, {1: 5.0, 2: 4.01}))
        self.assertFalse(agree({1: 5.0}, {1: 5.0, 2: 4.0}))  # one has not trained to the end
        self.assertFalse(agree({1: float("nan")}, {1: 5.0}))
        self.assertTrue(agree({1: 4.0}, {1: 4.01}, "bf16"))
        self.assertFalse(agree({1: 4.0}, {1: 4.1}, "bf16"))

    def test_greedy_tokens_are_equal_in_fp32(self):
        self.assertTrue(measure.agree(SAMPLING, "fp32", [[1, 2]], [[1, 2]]))
        self.assertFalse(measure.agree(SAMPLING, "fp32", [[1, 2]], [[1, 3]]))
        self.assertIsNone(measure.agree(SAMPLING, "bf16", [[1, 2]], [[1, 3]]))


class WatchedTest(unittest.TestCase):
    def test_parts_are_timed_without_the_first(self):
        watched = processes.Watched(["sh", "-c", "echo model; sleep 0.3; echo 'step 2/6 | loss 3.5';"
                                     "sleep 0.1; echo 'step 4/6 33% | loss 2.5 | x'; echo 'step 6/6 | loss 2'; sleep 0.2"])
        self.assertEqual((watched.other_lines, watched.losses), (["model"], {2: 3.5, 4: 2.5, 6: 2.0}))
        first, second = watched.seconds_per_step()
        self.assertTrue(0.05 <= first < 0.15, first)
        self.assertLess(second, first)
        self.assertGreater(watched.peak_bytes, 100_000)

    def test_a_program_is_ended_at_its_last_step(self):
        began = time.monotonic()
        watched = processes.Watched(["sh", "-c", "echo 'step 1/2 | loss 3'; echo 'step 2/2 | loss 2'; exec sleep 30"],
                                    last_step=2)
        self.assertLess(time.monotonic() - began, 20)
        self.assertEqual(watched.losses, {1: 3.0, 2: 2.0})
        with self.assertRaisesRegex(processes.Failed, "ended with 4"):
            processes.Watched(["sh", "-c", "echo 'step 1/2 | loss 3'; exit 4"], last_step=2)

    def test_a_failure_says_its_last_line(self):
        with self.assertRaisesRegex(processes.Failed, "^sh ended with 3: the reason$"):
            processes.Watched(["sh", "-c", "echo first >&2; echo the reason >&2; exit 3"])


# In place of lathe bench: a step of 100 ms, divided by the threads up to 2, a microsecond more for each token
# before another in a sequence, and 10 ms for each layer.
MODEL_OF_TIME = """#!/usr/bin/env python3
import json, sys
given = dict(word.lstrip("-").split("=", 1) for word in sys.argv if "=" in word)
assert "--no-floor" in sys.argv
tokens = int(given["micro-batch"]) * int(given["seq-len"])
attention = 1e-3 * tokens * int(given["seq-len"]) / 2
ms = 100 / min(2, int(given["threads"])) + attention + 10 * int(given.get("layers", 12))
print(json.dumps({"step_ms": ms, "parameters": 7, "operations": [
    {"name": "attention_forward", "ms": attention}, {"name": "linear_forward", "ms": ms - attention}]}))
"""


class ScalingTest(unittest.TestCase):
    def run_script(self, *words):
        with tempfile.TemporaryDirectory() as folder:
            lathe = pathlib.Path(folder) / "lathe"
            lathe.write_text(MODEL_OF_TIME)
            lathe.chmod(0o755)
            return subprocess.run([SCRIPTS / "bench_scaling.sh", "--lathe", lathe, "--rounds", "1", *words],
                                  capture_output=True, text=True, check=False)

    def test_tables_say_how_a_step_grows(self):
        done = self.run_script("--threads", "4", "--model", "gpt2")
        self.assertEqual(done.returncode, 0, done.stderr)
        # 4 x 64 tokens: 100 / threads + 8.192 + 120 ms.
        for line in ("| 1 | 228.2 | 1.00 | 100 % |", "| 2 | 178.2 | 1.28 | 64 % |", "| 4 | 178.2 | 1.28 | 32 % |",
                     "| 64 | 198.0 | 1.00 | 16.2 % |", "| 1024 | 678.0 | 3.42 | 75.5 % |",
                     "| 24 | 298.2 | 7 | 10.00 |"):
            self.assertIn(line + "\n", done.stdout)

    def test_refuses_what_it_does_not_know(self):
        done = self.run_script("--parts", "threads,rows")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--parts rows: must be of threads, tokens, layers", done.stderr)


class CommandTest(unittest.TestCase):
    def test_says_that_there_is_no_pytorch(self):
        done = bench("--smoke", python="/nonexistent/python")
        self.assertEqual(done.returncode, 77, done.stderr)
        self.assertIn("did not run: no PyTorch in /nonexistent/python", done.stdout)

    def test_refuses_what_it_does_not_know(self):
        for words, said in ((["--cases", "a,z"], "--cases z: must be of a, b, c, d, e, f, g"),
                            (["--precisions", "fp16"], "--precisions fp16: must be of fp32, bf16"),
                            (["--rounds", "0"], "must be at least 1"),
                            (["--lathe", "/nonexistent/lathe"], "/nonexistent/lathe: no such program")):
            done = subprocess.run([sys.executable, SCRIPTS / "bench_cpu/run.py", *words], capture_output=True, text=True,
                                  check=False)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(said, done.stderr)

    @unittest.skipUnless(has_pytorch(), f"no PyTorch and transformers in {PYTHON}: scripts/install_pytorch.sh")
    def test_both_sides_do_the_same(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "bench.json"
            done = bench("--smoke", "--threads", "1", "--json", str(path))
            self.assertEqual(done.returncode, 0, done.stderr)
            rows = json.loads(path.read_text())["rows"]
        self.assertEqual([(row["case"], row["precision"]) for row in rows],
                         [("a", "fp32"), ("a", "bf16"), ("f", "fp32"), ("f", "bf16"), ("g", "fp32")])
        for row in rows:
            self.assertEqual(row["agree"], None if row["case"] == "f" and row["precision"] == "bf16" else True, row)
            self.assertAlmostEqual(row["ratio"], row["pytorch"]["eager"]["seconds"] / row["lathe"]["seconds"])
            self.assertGreater(row["lathe"]["peak_bytes"], 1e6)
            self.assertGreater(row["pytorch"]["eager"]["peak_bytes"], 1e7)
        self.assertEqual(done.stdout.count("\n| "), 1 + len(rows), done.stdout)


if __name__ == "__main__":
    unittest.main()

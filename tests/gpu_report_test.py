#!/usr/bin/env python3
"""Of scripts/gpu_report.py and scripts/gpu_read.py: what they make of numbers that are known."""
import contextlib
import io
import json
import pathlib
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "scripts"))
import gpu_read
import gpu_report

GPT2_PARAMETERS = 124_439_808


def bench_value(name, tokens_per_second):
    return {"name": name, "layers": 12, "channels": 768, "seq_len": 1024, "micro_batch": 64,
            "bench": {"step_ms": 100.0, "tokens_per_second": tokens_per_second,
                      "parameters": GPT2_PARAMETERS,
                      "operations": [{"name": "linear_forward", "calls": 48, "ms": 20.5,
                                      "gflops_per_second": 7e5, "gbytes_per_second": None}]}}


class ReportTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name) / "report"

    def run_report(self, *args):
        with contextlib.redirect_stdout(io.StringIO()) as said:
            code = gpu_report.main(self.folder, *args)
        return code, said.getvalue().strip()

    def keep(self, stage, name, value):
        path = self.folder / "value"
        path.write_text(json.dumps(value))
        self.run_report("value", stage, name, path)

    def text(self):
        return (self.folder / "report.md").read_text()

    def test_stages_are_merged_and_what_failed_is_named(self):
        self.run_report("begin", "build")
        self.run_report("check", "build", "compile", "passed", "12", "done")
        self.run_report("begin", "train")
        self.run_report("check", "train", "resume", "failed", "3", "a | b differ")
        self.run_report("check", "train", "memcheck", "not run", "0", "needs a GPU")
        self.assertEqual(self.run_report("end", "build"), (0, "gpu_check: passed"))
        self.assertEqual(self.run_report("end", "build", "train"), (1, "gpu_check: failed: train: resume"))
        self.assertIn("## build, 12 s", self.text())
        self.assertIn("| resume | failed | 3 | a \\| b differ |", self.text())

    def test_a_stage_that_runs_again_forgets_its_failures(self):
        self.run_report("check", "train", "resume", "failed", "3", "")
        self.run_report("begin", "train")
        self.run_report("check", "train", "resume", "passed", "3", "")
        self.assertEqual(self.run_report("end", "train")[0], 0)

    def test_speed_is_set_against_the_ceiling_the_data_sheet_and_pytorch(self):
        self.run_report("begin", "bench")
        self.keep("bench", "bench gpt2", bench_value("gpt2", 500e3))
        self.keep("bench", "ceilings", {"bf16_gemm_tflops": 800.0})
        self.keep("peer", "peers", [
            {"name": "gpt2", "attention": "flash", "parameters_type": "fp32", "tokens_per_second": 300e3},
            {"name": "gpt2", "attention": "cudnn", "parameters_type": "bf16", "tokens_per_second": 400e3},
            {"name": "gpt2-xl", "attention": "cudnn", "parameters_type": "bf16", "tokens_per_second": 9e9}])
        # 500e3 (6 * 124.44e6 + 6 * 12 * 768 * 1024) = 401.6 TFLOP/s
        self.assertIn("| gpt2 | 100.00 | 500000 | 401.6 | 50.2 % | 40.6 % | "
                      "400000 (cudnn, bf16 parameters) | 1.250 |", self.text())
        self.assertIn("| linear_forward | 48 | 20.500 | 700000 |  |", self.text())

    def test_nothing_is_made_up_where_nothing_was_measured(self):
        self.run_report("begin", "bench")
        self.keep("bench", "bench gpt2", bench_value("gpt2", 500e3))
        self.assertIn("| 401.6 |  | 40.6 % |  |  |", self.text())


def steps(losses, norm=2.0):
    return {step: {"train/loss": loss, "train/grad_norm": norm} for step, loss in losses.items()}


class StepsTest(unittest.TestCase):
    expected = {step: 5.0 for step in range(1, 11)}

    def is_close(self, losses, norm=2.0):
        return gpu_read.compare_steps(steps(losses, norm), steps(self.expected), 1e-5)[0]

    def test_the_tolerance_grows_with_the_step(self):
        self.assertTrue(self.is_close(self.expected))
        self.assertTrue(self.is_close(self.expected | {10: 5.0 * (1 + 9e-5)}))
        self.assertFalse(self.is_close(self.expected | {10: 5.0 * (1 + 11e-5)}))
        self.assertFalse(self.is_close(self.expected | {1: 5.0 * (1 + 2e-5)}))

    def test_norms_may_differ_ten_times_as_much(self):
        self.assertTrue(self.is_close(self.expected, norm=2.0 * (1 + 9e-5)))
        self.assertFalse(self.is_close(self.expected, norm=2.0 * (1 + 11e-5)))

    def test_nan_and_missing_steps_fail(self):
        self.assertFalse(self.is_close(self.expected | {3: float("nan")}))
        self.assertFalse(self.is_close({1: 5.0}))
        self.assertFalse(gpu_read.compare_steps({}, {}, 1e-5)[0])


if __name__ == "__main__":
    unittest.main()

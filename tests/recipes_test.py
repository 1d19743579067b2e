#!/usr/bin/env python3
"""Of scripts/gpt2_*.sh: what they tell lathe, and that their dry form trains and goes on."""
import json
import os
import pathlib
import subprocess
import tempfile
import tomllib
import unittest

SCRIPTS = pathlib.Path(__file__).resolve().parent.parent / "scripts"
LATHE = os.environ["LATHE_BINARY"]

# As published with llm.c (scripts/run_gpt2_*.sh); parameters without the padding of the vocabulary.
COMMON = {"warmup-steps": 700, "weight-decay": 0.1, "seq-len": 1024, "precision": "bf16",
          "lr-schedule": "cosine", "val-every": 250, "val-tokens": 20 * 8 * 64 * 1024,
          "sample-every": 20000, "resume": "auto"}
PUBLISHED = {
    "124m": {"lr": 6e-4, "final-lr-fraction": 0, "batch-tokens": 2**19, "steps": 19560,
             "micro-batch": 64, "parameters": 124_439_808},
    "350m": {"lr": 3e-4, "final-lr-fraction": 0, "batch-tokens": 2**19, "steps": 60000,
             "micro-batch": 64, "parameters": 354_823_168},
    "774m": {"lr": 2.5e-4, "final-lr-fraction": 0, "batch-tokens": 2**19, "steps": 286102,
             "micro-batch": 32, "parameters": 774_030_080},
    "1558m": {"lr": 6e-4, "final-lr-fraction": 0.1, "batch-tokens": 2**20, "steps": 32000,
              "micro-batch": 16, "parameters": 1_557_611_200},
}


class RecipesTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.runs = pathlib.Path(temporary.name)

    def dry(self, recipe, lathe=LATHE, **environment):
        done = subprocess.run(
            [SCRIPTS / f"gpt2_{recipe}.sh"], capture_output=True, text=True, check=False, timeout=100,
            env=os.environ | {"DRY": "1", "RUNS": str(self.runs), "LATHE_BINARY": str(lathe)} |
            environment)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        return done.stdout

    def words(self, recipe):
        """What the recipe gives lathe on a GPU: all before what DRY adds."""
        spy = self.runs / "spy"
        spy.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        spy.chmod(0o755)
        words = self.dry(recipe, spy).splitlines()
        return words[:words.index("--layers")]

    def test_options_are_the_published_ones_and_fit_a_gpu_of_80_gb(self):
        for recipe, published in PUBLISHED.items():
            with self.subTest(recipe):
                words = self.words(recipe)
                self.assertEqual(words[:2], ["train", "--out"])
                given = {}
                for at, word in enumerate(words):
                    name, equals, value = word[2:].partition("=")
                    if word.startswith("--"):
                        given[name] = value if equals else words[at + 1]
                expected = COMMON | published
                parameters = expected.pop("parameters")
                for name, value in expected.items():
                    is_text = isinstance(value, str)
                    self.assertEqual(given[name] if is_text else float(given[name]), value, name)

                words.remove("--resume=auto")
                plan = json.loads(subprocess.run([LATHE, "plan", "--json", *words[1:]], check=True,
                                                 capture_output=True, text=True).stdout)
                self.assertEqual(plan["parameters"], parameters)
                self.assertEqual(plan["steps"], expected["steps"])
                self.assertLess(plan["memory_bytes"]["total"], 0.9 * 80e9)
                told = f"{plan['memory_bytes']['total'] / 1e9:.1f} GB (lathe plan)"
                self.assertIn(f"GPU memory: {told}", (SCRIPTS / f"gpt2_{recipe}.sh").read_text())

    def read(self, recipe, name):
        return (self.runs / "dry" / f"gpt2_{recipe}" / "run" / name).read_text()

    def test_each_trains_in_its_dry_form(self):
        for recipe, published in PUBLISHED.items():
            with self.subTest(recipe):
                self.dry(recipe)
                result = json.loads(self.read(recipe, "result.json"))
                self.assertEqual((result["status"], result["step"]), ("finished", 2))
                config = tomllib.loads(self.read(recipe, "config.toml"))
                for name in ("lr", "final-lr-fraction"):
                    self.assertEqual(config[name], published[name], name)
                self.assertIn("val/task/acc_norm", self.read(recipe, "metrics.jsonl"))

    def test_a_run_that_was_stopped_goes_on_and_one_at_its_end_rests(self):
        self.dry("124m", LATHE_STOP_AT_STEP="1")
        self.assertEqual(json.loads(self.read("124m", "result.json"))["status"], "stopped")
        self.assertIn("resumed at step 1", self.dry("124m"))
        self.assertEqual(json.loads(self.read("124m", "result.json"))["status"], "finished")
        self.assertIn("nothing to do", self.dry("124m"))


if __name__ == "__main__":
    unittest.main()

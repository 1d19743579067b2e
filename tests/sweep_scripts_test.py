#!/usr/bin/env python3
"""scripts/sweep/: each makes all of its runs, goes on where it was stopped or killed, repeats nothing, and
acts on every exit code.

  sweep_scripts_test.py [Grids|Slurm|Optuna]

optuna_sweep.py runs under a Python that has Optuna: LATHE_OPTUNA_PYTHON, build/optuna (made by
scripts/install_from_pypi.sh optuna) or the one this was started with. Where none has it, a line says so, and
Optuna alone exits with 77.
"""
import csv
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

SKIPPED = 77
SCRIPTS = pathlib.Path(__file__).resolve().parent.parent / "scripts/sweep"
LATHE = os.environ["LATHE_BINARY"]
STEPS = 600  # long enough to be caught in the middle
TINY = ["--layers=1", "--heads=1", "--channels=8", "--context=8", "--micro-batch=1", f"--steps={STEPS}",
        "--val-every=200", "--val-tokens=64", "--checkpoint-every=200", "--quiet", "--on-nonfinite=stop",
        "--lr-schedule=constant", "--warmup-steps=0"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("LATHE_", "SLURM_"))}
ENVIRONMENT |= {"LATHE_BINARY": LATHE, "OMP_WAIT_POLICY": "passive"}


def find_optuna():
    candidates = [os.environ.get("LATHE_OPTUNA_PYTHON"),
                  pathlib.Path(LATHE).parent / "optuna/bin/python", sys.executable]
    for python in filter(None, candidates):
        if os.path.exists(python) and subprocess.run([python, "-c", "import optuna"],
                                                     stderr=subprocess.DEVNULL).returncode == 0:
            return python
    print("sweep_scripts_test.py did not run optuna_sweep.py: no Python with Optuna; "
          "scripts/install_from_pypi.sh optuna makes build/optuna, LATHE_OPTUNA_PYTHON names another",
          flush=True)
    if sys.argv[1:] == ["Optuna"]:
        sys.exit(SKIPPED)
    return None


OPTUNA = find_optuna()


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

    def grid_of(self, table):
        return {row["name"]: row["status"] for row in csv.DictReader(io.StringIO(table))}


GRID = {"LRS": "1e30 1e-3", "SEEDS": "1 2"}
CALM = ["lr1e-3-s1", "lr1e-3-s2"]
WILD = ["lr1e30-s1", "lr1e30-s2"]
STATUSES = {name: "finished" for name in CALM} | {name: "failed" for name in WILD}


class Grids(Sweeps):
    """grid.sh and xargs.sh."""

    def sessions(self, out):
        return {run.name: self.environment_of(run)["session"] for run in (self.folder / out).iterdir()}

    def expect_whole_grid(self, out, table, unbroken):
        self.assertEqual(self.grid_of(table), STATUSES)
        for name in CALM:
            self.assertEqual(self.weights(f"{out}/{name}"), self.weights(f"{unbroken}/{name}"), name)

    def stop_and_go_on(self, script, started, number, code, **environment):
        """Stops it while `started` run; all of the grid is then as if nobody had."""
        table, err = self.run_to_end(script, "unbroken", *TINY, **GRID | environment)
        self.assertEqual(self.grid_of(table), STATUSES)
        self.assertEqual(err.count("diverged"), 2, err)

        process = self.start(script, "broken", *TINY, **GRID | environment)
        self.wait_for_checkpoints(*(f"broken/{name}" for name in started))
        begun = self.sessions("broken")
        if number == signal.SIGKILL:
            os.killpg(process.pid, number)
            process.communicate()
        else:
            process.send_signal(number)
            process.wait(timeout=100)  # and not for what it has started, which has its stdout too
            statuses = {name: self.result(f"broken/{name}")["status"] for name in started}
            self.assertNotIn("running", statuses.values(), "its runs end before it does")
            self.finish(process, code)
        self.assertEqual(self.sessions("broken"), begun, "nothing else has begun")
        # Of two that run, one may have been at its end.
        is_stopped = {name: self.result(f"broken/{name}")["status"] != "finished" for name in started}
        self.assertIn(True, is_stopped.values())
        self.assertTrue(number == signal.SIGKILL or
                        all(self.result(f"broken/{name}")["exit_code"] == (143 if is_stopped[name] else 0)
                            for name in started))

        table, _ = self.run_to_end(script, "broken", *TINY, **GRID | environment)
        self.expect_whole_grid("broken", table, "unbroken")
        self.assertEqual(self.sessions("broken"), {name: 2 if is_stopped.get(name) else 1 for name in STATUSES})

        def everything():
            return {path: path.stat().st_mtime_ns for path in (self.folder / "broken").rglob("*")
                    if path.suffix in (".jsonl", ".safetensors", ".json")}
        before = everything()
        self.assertEqual(self.run_to_end(script, "broken", *TINY, **GRID | environment)[0], table)
        self.assertEqual(everything(), before, "what has ended is left alone")

    def test_grid_goes_on_after_a_signal_to_it_alone(self):
        self.stop_and_go_on("grid.sh", CALM[1:], signal.SIGTERM, 143)

    def test_grid_goes_on_after_a_kill(self):
        self.stop_and_go_on("grid.sh", CALM[:1], signal.SIGKILL, None)

    def test_xargs_goes_on_after_a_signal_to_it_alone(self):
        self.stop_and_go_on("xargs.sh", CALM, signal.SIGTERM, 143, JOBS="2")

    def test_xargs_takes_one_device_for_each_slot(self):
        self.run_to_end("xargs.sh", "out", *TINY, "--steps=20", "--device=cpu", LRS="1e-3", SEEDS="1 2 3 4",
                        DEVICES="5 GPU-3f")
        devices = [self.environment_of(f"out/lr1e-3-s{seed}")["environment"]["CUDA_VISIBLE_DEVICES"]
                   for seed in range(1, 5)]
        self.assertEqual(set(devices), {"5", "GPU-3f"})
        self.run_to_end("xargs.sh", "cpu", *TINY, "--steps=20", LRS="1e-3", SEEDS="1", JOBS="1")
        self.assertEqual(self.environment_of("cpu/lr1e-3-s1")["threads"], len(os.sched_getaffinity(0)))

    def test_wrong_options_end_it_at_once(self):
        for script, code in (("grid.sh", 2), ("xargs.sh", 1)):
            with self.subTest(script):
                _, err = self.run_to_end(script, "out", *TINY, "--lr-schedule=step", code=code, JOBS="1", **GRID)
                self.assertEqual(err.count("lathe: --lr-schedule step: must be"), 1, err)
                self.assertIn("exit code 2", err)
                self.assertFalse((self.folder / "out").exists())
                self.assertIn("the folder of the runs is missing", self.run_to_end(script, code=1)[1])


class Slurm(Sweeps):
    """slurm_array.sh, with stand-ins for srun and scontrol that do what Slurm would."""

    def setUp(self):
        super().setUp()
        self.program("srun", 'exec "$@"')
        self.program("scontrol", 'echo "$*" >>scontrol.log')

    def job(self, *options, code=0, task=1, **environment):
        """What scontrol was told meanwhile."""
        log = self.folder / "scontrol.log"
        log.unlink(missing_ok=True)
        environment = {"PATH": f"{self.folder}/bin:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": str(task),
                       "SLURM_JOB_ID": "77", "LRS": "1e-3 3e-3", "SEEDS": "1 2"} | environment
        self.out, self.err = self.run_to_end("slurm_array.sh", "out", *TINY, *options, code=code, **environment)
        return log.read_text() if log.exists() else ""

    def test_a_task_is_a_point_of_the_grid(self):
        for task, name in enumerate(["lr1e-3-s1", "lr1e-3-s2", "lr3e-3-s1", "lr3e-3-s2"]):
            self.assertEqual(self.job("--steps=1", task=task), "")
            self.assertEqual(self.result(f"out/{name}")["status"], "finished")
        self.assertEqual(self.job(task=4, code=2), "")
        self.assertIn("--array 4: there are 2 x 2 runs", self.err)

    def test_a_job_whose_time_is_over_goes_back_into_the_queue_and_on(self):
        restarts = 0
        while self.job(MAX_TIME=str(0.1 * (restarts + 1)), SLURM_RESTART_COUNT=str(restarts)) == "requeue 77\n":
            self.assertEqual(self.result("out/lr1e-3-s2")["exit_code"], 124)
            restarts += 1
            self.assertLess(restarts, 50)
        self.assertGreater(restarts, 0)
        result = self.result("out/lr1e-3-s2")
        self.assertEqual((result["status"], result["step"]), ("finished", STEPS))

    def test_usr1_before_the_end_of_the_time_does_the_same(self):
        self.program("srun", '"$@" &\n'
                     'until [[ $(wc -l <out/lr1e-3-s2/metrics.jsonl) -gt 20 ]]; do sleep 0.01; done 2>/dev/null\n'
                     'kill -USR1 $!\n'
                     'wait $!')
        self.assertEqual(self.job(), "requeue 77\n")
        self.assertEqual(self.result("out/lr1e-3-s2")["exit_code"], 138)
        self.program("srun", 'exec "$@"')
        self.assertEqual(self.job(), "")
        self.assertEqual(self.result("out/lr1e-3-s2")["status"], "finished")
        self.assertEqual(self.environment_of("out/lr1e-3-s2")["session"], 2)

    def test_every_other_exit_code_is_that_of_the_job(self):
        self.assertEqual(self.job("--lr-schedule=step", code=2), "")
        self.assertEqual(self.job("--train=none.txt", code=3), "")
        self.assertEqual(self.job(code=7, LRS="1e30"), "")
        for code in (1, 4, 5, 6, 143):
            self.program("srun", f"exit {code}")
            self.assertEqual(self.job(code=code), "")

    def test_a_job_that_cannot_go_back_fails(self):
        self.program("srun", "exit 124")
        self.assertEqual(self.job(code=124, SLURM_RESTART_COUNT="3", MOST_RESTARTS="3"), "")
        self.assertIn("restarted MOST_RESTARTS times, 3", self.err)
        self.program("scontrol", "exit 1")
        self.job(code=124)

    def test_sbatch_asks_for_what_the_script_counts_on(self):
        asked = [line.split()[1] for line in (SCRIPTS / "slurm_array.sh").read_text().splitlines()
                 if line.startswith("#SBATCH")]
        self.assertIn("--signal=USR1@120", asked)
        self.assertIn("--requeue", asked)
        self.assertIn("--open-mode=append", asked)


@unittest.skipUnless(OPTUNA, "no Python with Optuna")
class Optuna(Sweeps):
    TRIALS = 4

    def sweep(self, out):
        return [OPTUNA, SCRIPTS / "optuna_sweep.py", out, f"--trials={self.TRIALS}", *TINY]

    def trials(self, out):
        """(state, value, options) of each, as Optuna has them."""
        program = ("import json, optuna, sys\n"
                   "study = optuna.load_study(study_name=None, storage=sys.argv[1])\n"
                   "print(json.dumps([(t.state.name, str(t.value), t.params) for t in study.trials]))")
        done = subprocess.run([OPTUNA, "-c", program, f"sqlite:///{self.folder}/{out}/optuna.db"], check=True,
                              capture_output=True, text=True)
        return json.loads(done.stdout)

    def test_a_stopped_sweep_goes_on_and_finds_the_same(self):
        best = json.loads(self.run_to_end(*self.sweep("unbroken"))[0])
        trials = self.trials("unbroken")
        values = [self.result(f"unbroken/trial-{number:04}")["best_val_loss"] for number in range(self.TRIALS)]
        self.assertEqual([value for _, value, _ in trials], list(map(str, values)))
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
        self.assertEqual(trials[1][1], "inf")
        self.assertEqual(self.result("out/trial-0002")["end_reason"], "stop_if")
        self.assertEqual(trials[2][1], str(self.result("out/trial-0002")["best_val_loss"]))
        self.run_to_end(*words, code=124, LATHE_BINARY=str(lathe), MORE="--max-time=0.01")
        best = json.loads(self.run_to_end(*words, LATHE_BINARY=str(lathe))[0])
        self.assertEqual([state for state, *_ in self.trials("out")], ["COMPLETE"] * 4)
        self.assertNotEqual(best["trial"], 1)


if __name__ == "__main__":
    unittest.main()

#!/usr/bin/env python3
"""scripts/sweep/*.sh: each makes all of its runs, goes on where it was stopped or killed, repeats nothing, and
acts on every exit code."""
import csv
import io
import os
import signal
import unittest

from sweep_runs import SCRIPTS, STEPS, TINY, Sweeps

GRID = {"LRS": "1e30 1e-3", "SEEDS": "1 2"}
CALM = ["lr1e-3-s1", "lr1e-3-s2"]
WILD = ["lr1e30-s1", "lr1e30-s2"]
STATUSES = {name: "finished" for name in CALM} | {name: "failed" for name in WILD}


class Grids(Sweeps):
    """grid.sh and xargs.sh."""

    def grid_of(self, table):
        return {row["name"]: row["status"] for row in csv.DictReader(io.StringIO(table))}

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
        # Short enough that no machine does all of it in the first job.
        while self.job(MAX_TIME=str(0.02 * 1.5**restarts), SLURM_RESTART_COUNT=str(restarts)) == "requeue 77\n":
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
        self.assertEqual(self.job("--steps=1000000"), "requeue 77\n")
        self.assertEqual(self.result("out/lr1e-3-s2")["exit_code"], 138)
        self.program("srun", 'exec "$@"')
        more = self.result("out/lr1e-3-s2")["step"] + 10  # it comes to some step while the signal is on its way
        self.assertEqual(self.job(f"--steps={more}"), "")
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


if __name__ == "__main__":
    unittest.main()

#!/usr/bin/env python3
"""scripts/ranks/*.sh: each goes on where a run was stopped, killed or failed by a rank, goes by what stands in
result.json, and comes to an end."""
import os
import pathlib
import shutil
import signal
import time
import unittest

from sweep_runs import SCRIPTS, Sweeps

RANKS = SCRIPTS.parent / "ranks"
STEPS = 1000  # long enough to be caught in the middle
RUN = ["--layers=1", "--heads=1", "--channels=8", "--context=8", "--micro-batch=1", "--batch-tokens=16", "--threads=1",
       f"--steps={STEPS}", "--val-every=0", "--val-tokens=64", "--checkpoint-every=50", "--quiet"]
# What follows these words of a launcher is the program.
LAUNCH = 'while [[ $1 != "$LATHE_BINARY" ]]; do shift; done\n'
# A program that ends as a run whose first rank was failed by another.
FAILED_BY_A_RANK = LAUNCH + ('"$@" --stop-at-step="$(cat steps)"\n'
                             'sed -i \'s/"stopped"/"failed"/; s/"exit_code": 0/"exit_code": 8/\' out/result.json\n'
                             'exit 143')


class Scripts(Sweeps):
    def expect_finished(self, out="out"):
        result = self.result(out)
        self.assertEqual((result["status"], result["step"]), ("finished", STEPS))

    def weights_of(self, out):
        return (self.folder / out / f"checkpoints/step-{STEPS:08}/model.safetensors").read_bytes()


class Slurm(Scripts):
    """slurm.sh, with stand-ins for srun and scontrol that do what Slurm would."""

    def setUp(self):
        super().setUp()
        self.program("srun", 'echo "$*" >>srun.log\n' + LAUNCH + 'exec "$@"')
        self.program("scontrol", 'echo "$*" >>scontrol.log')

    def job(self, *options, code=0, **environment):
        """Whether the job went back into the queue."""
        log = self.folder / "scontrol.log"
        log.unlink(missing_ok=True)
        environment = {"PATH": f"{self.folder}/bin:{os.environ['PATH']}", "SLURM_JOB_ID": "77"} | environment
        _, self.err = self.run_to_end(str(RANKS / "slurm.sh"), "out", *RUN, *options, code=code, **environment)
        self.assertIn(log.read_text() if log.exists() else "", ("", "requeue 77\n"))
        return log.exists()

    def test_a_job_whose_time_is_over_goes_back_into_the_queue_and_on(self):
        restarts = 0
        while self.job(MAX_TIME=str(0.1 * (restarts + 1)), SLURM_RESTART_COUNT=str(restarts)):
            self.assertEqual(self.result("out")["exit_code"], 124)
            restarts += 1
            self.assertLess(restarts, 50)
        self.assertGreater(restarts, 0)
        self.expect_finished()
        before = self.environment_of("out")
        self.assertFalse(self.job(), "a finished run is left alone")
        self.assertEqual(self.environment_of("out"), before)

    def test_usr1_before_the_end_of_the_time_does_the_same(self):
        self.program("srun", LAUNCH + '"$@" &\n'
                     'until [[ $(wc -l <out/metrics.jsonl) -gt 20 ]]; do sleep 0.01; done 2>/dev/null\n'
                     'kill -USR1 $!\n'
                     'wait $!')
        self.assertTrue(self.job("--steps=1000000"))
        self.assertEqual(self.result("out")["exit_code"], 138)

    def test_a_job_whose_rank_has_died_goes_back(self):
        (self.folder / "steps").write_text("40")
        self.program("srun", FAILED_BY_A_RANK)
        self.assertTrue(self.job())
        self.assertEqual(self.result("out")["exit_code"], 8)
        self.program("srun", LAUNCH + '"$@" &\n'
                     'until [[ $(wc -l <out/metrics.jsonl) -gt 100 ]]; do sleep 0.01; done\n'
                     'kill -KILL $!\n'
                     'wait $!')
        # However late it is killed, it has not finished, and the next goes on from step 40.
        self.assertTrue(self.job("--steps=1000000", "--checkpoint-every=0"))
        self.program("srun", LAUNCH + 'exec "$@"')
        self.assertFalse(self.job())
        self.expect_finished()

    def test_the_exit_code_is_that_of_the_run_and_not_of_srun(self):
        self.program("srun", LAUNCH + '"$@"\nexit 143')
        self.assertFalse(self.job("--lr=1e30", "--max-skips=2", code=7))

    def test_a_job_that_cannot_begin_fails(self):
        self.assertFalse(self.job("--lr-schedule=step", code=2))
        self.assertTrue(self.job("--steps=1000000", MAX_TIME="0.1"))
        self.assertFalse(self.job("--lr-schedule=step", code=2), "whatever an earlier job has left")

    def test_a_job_that_cannot_go_back_fails(self):
        endless = "--steps=1000000"
        self.assertFalse(self.job(endless, code=124, MAX_TIME="0.1", SLURM_RESTART_COUNT="3", MOST_RESTARTS="3"))
        self.assertIn("restarted MOST_RESTARTS times, 3", self.err)
        self.program("scontrol", "exit 1")
        self.job(endless, code=124, MAX_TIME="0.1")

    def test_ranks_are_started_with_pmix_and_the_cores_of_their_task(self):
        self.job("--stop-at-step=1", SLURM_CPUS_PER_TASK="16")
        self.assertTrue(self.read(".", "srun.log").startswith("--mpi=pmix --cpus-per-task=16 "))
        asked = [line.split()[1] for line in (RANKS / "slurm.sh").read_text().splitlines()
                 if line.startswith("#SBATCH")]
        for option in ("--signal=USR1@120", "--requeue", "--open-mode=append"):
            self.assertIn(option, asked)


class Mpirun(Scripts):
    """mpirun_hosts.sh, with a stand-in for mpirun that starts one process."""

    def setUp(self):
        super().setUp()
        (self.folder / "hosts").write_text("localhost slots=2\n")
        self.program("mpirun", LAUNCH + 'exec "$@"')
        self.environment = {"MPIRUN": str(self.folder / "bin/mpirun"), "RESTART_PAUSE": "0"}

    def words(self, *options):
        return [str(RANKS / "mpirun_hosts.sh"), "hosts", "2", "out", *RUN, *options]

    def loop(self, *options, code=0, **environment):
        """What it says on stderr."""
        return self.run_to_end(*self.words(*options), code=code, **self.environment | environment)[1]

    def test_goes_on_after_a_rank_has_failed_whatever_mpirun_says(self):
        self.program("mpirun", 'echo $(($(cat steps || echo 0) + 300)) >steps\n' + FAILED_BY_A_RANK)
        err = self.loop()
        self.assertEqual(err.count("failed, exit code 8: again, from out/checkpoints/step-00000"), 3, err)
        self.expect_finished()

    def test_goes_on_after_its_time_and_gives_up_without_progress(self):
        self.program("mpirun", LAUNCH + '[[ -e once ]] || { touch once; exec "$@" --max-time=0.001; }\nexec "$@"')
        self.assertIn("stopped, exit code 124: again", self.loop())
        self.expect_finished()
        shutil.rmtree(self.folder / "out")
        (self.folder / "steps").write_text("40")
        self.program("mpirun", FAILED_BY_A_RANK)
        err = self.loop(code=8, MOST_RESTARTS="2")
        self.assertEqual(err.count(": again, from "), 3, "one with progress, two without")
        self.assertIn("started 3 times without a new checkpoint", err)

    def test_ends_with_the_run(self):
        self.assertNotIn("again", self.loop("--lr=1e30", "--max-skips=2", code=7))
        self.assertEqual(self.result("out")["exit_code"], 7)

    def test_what_cannot_begin_is_said(self):
        self.assertIn("there is no run in out: see above", self.loop("--lr-schedule=step", code=1))
        self.program("mpirun", LAUNCH + '[[ -e out ]] || exec "$@" --max-time=1\nexit 1')
        err = self.loop("--steps=1000000", code=1, MOST_RESTARTS="1")
        self.assertIn("stopped, exit code 124: again, from ", err)
        self.assertIn("not begun: started 2 times without a new checkpoint", err)
        for missing in (1, 2, 3):
            _, err = self.run_to_end(*self.words()[:missing], code=1)
            self.assertIn("is missing: mpirun_hosts.sh HOSTFILE RANKS OUT OPTIONS...", err)


class GpuNodes(Scripts):
    """gpu_nodes.sh, with a stand-in for lathe."""

    def begin(self, *words, **environment):
        environment = {"GPUS": "2", "LATHE_BINARY": str(self.folder / "bin/lathe")} | environment
        return self.start(str(RANKS / "gpu_nodes.sh"), *words, **environment)

    def test_each_gpu_has_a_process_with_the_variables_of_torchrun(self):
        self.program("lathe", 'echo "$RANK of $WORLD_SIZE, $LOCAL_RANK of $LOCAL_WORLD_SIZE,'
                     ' $MASTER_ADDR $MASTER_PORT: $*" >"said$RANK"')
        self.finish(self.begin("3", "1", "node-a", "out", "--steps=5", PORT="4711"))
        for rank, local in ((2, 0), (3, 1)):
            self.assertEqual(self.read(".", f"said{rank}"), f"{rank} of 6, {local} of 2, node-a 4711: "
                             "train --device cuda --out out --resume=auto --steps=5\n")

    def test_the_exit_code_is_that_of_the_first_that_failed_and_all_have_ended(self):
        self.program("lathe", '[[ $RANK = 0 ]] || exit 3\nsleep 0.5\ntouch last\nexit 8')
        self.finish(self.begin("1", "0", "node-a", "out"), code=3)
        self.assertTrue((self.folder / "last").exists())

    def test_signals_go_to_all_processes(self):
        self.program("lathe", "trap 'touch stopped$RANK; exit 138' USR1\ntouch up$RANK\nwhile :; do sleep 0.05; done")
        process = self.begin("1", "0", "node-a", "out")
        until = time.monotonic() + 60
        while len(list(self.folder.glob("up*"))) < 2:
            self.assertLess(time.monotonic(), until, "they have not begun")
            time.sleep(0.01)
        process.send_signal(signal.SIGUSR1)
        self.finish(process, code=138)
        self.assertEqual(len(list(self.folder.glob("stopped*"))), 2)


@unittest.skipUnless(shutil.which("mpirun"), "no mpirun here (openmpi-bin)")
class Ranks(Scripts):
    """mpirun_hosts.sh with two ranks on this machine."""

    def setUp(self):
        super().setUp()
        (self.folder / "hosts").write_text("localhost slots=2\n")
        self.environment = {"RESTART_PAUSE": "0", "OMPI_ALLOW_RUN_AS_ROOT": "1",
                            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_btl_vader_single_copy_mechanism": "none"}

    def begin(self, out):
        return self.start(str(RANKS / "mpirun_hosts.sh"), "hosts", "2", out, *RUN, "--rank-timeout=10s",
                          **self.environment)

    def wait_for(self, step):
        """Until there is a checkpoint of that step or a later one."""
        until = time.monotonic() + 60
        while max((path.name for path in self.folder.glob("out/checkpoints/step-*")), default="") < f"step-{step:08}":
            self.assertLess(time.monotonic(), until, "it has not begun")
            time.sleep(0.002)

    def process_of(self, rank):
        """Of the run in this test's folder."""
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                is_here = (process / "cwd").readlink() == self.folder
                if is_here and f"OMPI_COMM_WORLD_RANK={rank}" in (process / "environ").read_text().split("\0"):
                    return int(process.name)
            except OSError:
                continue
        self.fail(f"there is no rank {rank}")

    def test_a_run_whose_ranks_are_killed_ends_as_if_none_had_been(self):
        self.finish(self.begin("unbroken"))
        process = self.begin("out")
        for rank, step in ((1, 100), (0, 400)):
            self.wait_for(step)
            os.kill(self.process_of(rank), signal.SIGKILL)
        _, err = self.finish(process)
        self.assertGreaterEqual(err.count(": again, from out/checkpoints/step-"), 2, err)
        self.expect_finished()
        self.assertEqual(self.weights_of("out"), self.weights_of("unbroken"))

    def test_a_signal_stops_the_run_which_saves(self):
        process = self.begin("out")
        self.wait_for(100)
        process.send_signal(signal.SIGTERM)
        self.finish(process, code=138)
        self.assertEqual(self.result("out")["status"], "stopped")
        self.finish(self.begin("out"))
        self.expect_finished()


if __name__ == "__main__":
    unittest.main()

"""Kills a run with -9 at random moments until it has made its last step, a checkpoint each step, and
begins another run when one has. See random_kills.sh."""
import random
import time

from common import Scratch, Tally, Unbroken, each, JOBS, number, require_built, run, start

OPTIONS = ["--checkpoint-every", "1", "--keep", "2", "--val-every", "5"]
STEPS = 150
LONGEST = 0.25  # seconds to live: a start takes some hundredths, the whole run about a second


def kill_until_finished(scratch, unbroken, kills, seed):
    """Kills one run over and over; how many kills hit it alive, and what is wrong with it then."""
    chance = random.Random(seed)
    folder = scratch.folder() / "run"
    hits = 0
    while hits < kills:
        process = start(unbroken.train(folder, "--resume=auto"))
        time.sleep(chance.uniform(0.005, LONGEST))
        process.kill()
        code = process.wait()
        if code == 0:
            break
        if code != -9:
            return hits, f"after {hits} kills: exit code {code}"
        hits += 1
    return hits, unbroken.finish(folder)


def main(kills):
    require_built()
    scratch = Scratch()
    unbroken = Unbroken(scratch, OPTIONS, STEPS)
    tally = Tally(kills)

    def share(job):
        seed, left = job, (kills + job) // JOBS
        while left > 0:
            hits, problem = kill_until_finished(scratch, unbroken, left, seed)
            for _ in range(max(hits, 1 if problem else 0)):
                tally.add(f"run of seed {seed}", problem, "kills of a living run")
            left -= hits
            seed += JOBS
            if problem:
                break

    each(range(JOBS), share)
    return tally.finish(least=kills)


if __name__ == "__main__":
    raise SystemExit(main(number(1000)))

"""Kills a run with -9 at random moments until it has made its last step, a checkpoint each step, and
begins another run when one has. See random_kills.sh."""
import random
import time

from common import Scratch, Tally, Unbroken, each, JOBS, number, require_built, run, start

OPTIONS = ["--checkpoint-every", "1", "--keep", "2", "--val-every", "5"]
STEPS = 150
LONGEST = 0.25  # seconds to live: a start takes some hundredths, the whole run about a second


def size_of(path):
    return path.stat().st_size if path.exists() else 0


def phase_of(folder, began, metrics_before):
    """What the run that began then was doing when it was killed, as far as its folder shows."""
    names = [path.name for path in (folder / "checkpoints").glob(".*")
             if path.lstat().st_mtime >= began]
    if any(name.startswith(".partial-") for name in names):
        return "killed while it saved"
    if any(name.startswith(".removed-") for name in names):
        return "killed while it removed a checkpoint"
    # The session's first line takes the place of lines that the one before had not saved.
    if size_of(folder / "metrics.jsonl") != metrics_before:
        return "killed while it trained"
    return "killed before its first step"


def kill_until_finished(scratch, unbroken, tally, kills, seed):
    """Kills one run over and over; how many kills hit it alive, and what is wrong with it then."""
    chance = random.Random(seed)
    folder = scratch.folder() / "run"
    hits = 0
    while hits < kills:
        metrics_before = size_of(folder / "metrics.jsonl")
        began = time.time()
        process = start(unbroken.train(folder, "--resume=auto"))
        time.sleep(chance.uniform(0.005, LONGEST))
        process.kill()
        code = process.wait()
        if code == 0:
            break
        if code != -9:
            return hits, f"after {hits} kills: exit code {code}"
        hits += 1
        tally.note(phase_of(folder, began, metrics_before))
    return hits, unbroken.finish(folder)


def main(kills):
    require_built()
    scratch = Scratch()
    unbroken = Unbroken(scratch, OPTIONS, STEPS)
    tally = Tally(kills)

    def share(job):
        seed, left = job, (kills + job) // JOBS
        while left > 0:
            hits, problem = kill_until_finished(scratch, unbroken, tally, left, seed)
            for _ in range(max(hits, 1 if problem else 0)):
                tally.add(f"run of seed {seed}", problem)
            left -= hits
            seed += JOBS
            if problem:
                break

    each(range(JOBS), share)
    return tally.finish(least=kills)


if __name__ == "__main__":
    raise SystemExit(main(number(1000)))

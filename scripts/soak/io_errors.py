"""Lets system calls of a run fail, some once and some for a while, and goes on with it where it gave up.
See io_errors.sh."""
import errno
import random

from common import Scratch, Tally, Unbroken, each, number, require_built, result, run

OPTIONS = ["--checkpoint-every", "1", "--keep", "2", "--val-every", "3", "--save-retries", "2",
           "--save-retry-seconds", "0.01"]
STEPS = 8
ERRORS = {"write": (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EINTR),
          "fsync": (errno.EIO, errno.ENOSPC, errno.EINTR),
          "rename": (errno.EIO, errno.ENOSPC),
          "mkdir": (errno.EIO, errno.ENOSPC, errno.EDQUOT),
          "open": (errno.EIO, errno.ENOSPC, errno.EMFILE, errno.EINTR)}
# Where a run once ended in the wrong way: a new run's folder that cannot be listed.
FOUND = [{"kind": "error", "operations": "open", "errno": errno.EINTR, "at": at, "calls": 1} for at in range(14, 19)]


def make_case(chance):
    operation = chance.choice(list(ERRORS) + ["short"])
    if operation == "short":
        return {"kind": "short", "operations": "write", "bytes": chance.choice((1, 7, 4096)),
                "at": chance.randint(1, 40), "calls": chance.choice((1, 50))}
    return {"kind": "error", "operations": operation, "errno": chance.choice(ERRORS[operation]),
            "at": chance.randint(1, 8 if operation == "mkdir" else 40),
            "calls": chance.choice((1, 1, 3, 30))}


def check(scratch, unbroken, faults):
    folder = scratch.folder()
    ended = run(unbroken.train(folder / "run"), {"folder": folder, **faults})
    if ended.code == 0:
        return "", unbroken.difference(folder / "run")
    # Checkpoints that cannot be listed at the start are an error of checkpoints.
    is_unlisted = ended.code == 4 and faults["operations"] == "open" and "cannot list" in ended.said
    if ended.code != 6 and not is_unlisted:
        return "", str(ended)
    # What it told when the disk let it, and that whatever it has saved is whole.
    if (folder / "run/checkpoints").is_dir() and list((folder / "run/checkpoints").glob("step-*")):
        verified = run(["verify", folder / "run"])
        if verified.code != 0:
            return " ended", f"verify: {verified}"
        try:
            found = result(folder / "run")
        except (OSError, ValueError) as error:
            return " ended", f"{type(error).__name__}: {error}"
        if found["exit_code"] != ended.code and found["status"] != "running":
            return " ended", f"result.json says {found['status']}, {found['exit_code']}"
    return " ended", unbroken.finish(folder / "run")


def main(errors):
    require_built()
    scratch = Scratch()
    unbroken = Unbroken(scratch, OPTIONS, STEPS)
    chance = random.Random(5)
    cases = (FOUND + [make_case(chance) for _ in range(errors)])[:errors]
    tally = Tally(errors)

    def one(faults):
        kind, problem = check(scratch, unbroken, faults)
        tally.add(str(faults), problem, faults["kind"] + " " + faults["operations"] + kind)

    each(cases, one)
    return tally.finish(least=errors)


if __name__ == "__main__":
    raise SystemExit(main(number(500)))

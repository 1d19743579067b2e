"""Lets the power fail at every call of a recorded run and of its resume, dropping and tearing what was
not synced, and goes on from what is left. See power_loss.sh."""
import subprocess
import sys

from common import DISK_STATES, Scratch, Tally, Unbroken, each, number, require_built, run

OPTIONS = ["--checkpoint-every", "1", "--keep", "2", "--val-every", "3"]
STEPS = 7
SAMPLES = 48  # states that a run really goes on from


def record(scratch, unbroken):
    """A run that is killed while it removes a checkpoint, goes on, is stopped, and goes on to its end."""
    root, trace = scratch.folder(), scratch.path / "trace"
    removing = {"kind": "kill_after", "operations": "rename", "path": ".removed-", "at": 1}
    for code, more, faults in ((-9, [], removing), (0, ["--resume=auto", "--stop-at-step", "5"], {}),
                               (0, ["--resume=auto"], {})):
        ended = run(unbroken.train(root / "run", *more), {"folder": root, "trace": trace, **faults})
        if ended.code != code:
            sys.exit(f"the recorded run: {ended}")
    return root, trace


def main(states):
    require_built()
    scratch = Scratch()
    unbroken = Unbroken(scratch, OPTIONS, STEPS)
    root, trace = record(scratch, unbroken)
    samples = scratch.folder()
    found = subprocess.run([DISK_STATES, "power_loss", trace, root, str(states), "1",
                            scratch.folder(), samples, str(SAMPLES)],
                           stdout=subprocess.PIPE, text=True, check=False)
    *told, last = found.stdout.strip().splitlines() or [f"exit code {found.returncode}"]
    print("\n".join(told))
    print(f"states: {last}")
    tally = Tally(SAMPLES)
    each(sorted(samples.iterdir()),
         lambda sample: tally.add(sample.name, unbroken.finish(sample / "run"), "resumed"))
    passed, _, of = last.removeprefix("passed ").partition(" of ")
    if found.returncode not in (0, 1) or not of:
        return 1
    tally.passed += int(passed)
    tally.all += int(of)
    code = tally.finish(least=states + SAMPLES // 2)
    return code or found.returncode


if __name__ == "__main__":
    raise SystemExit(main(number(10000)))

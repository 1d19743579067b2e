"""Kills a run before and after every file system call that it makes, with a checkpoint each step,
retention and saving in the background, and goes on with it. See kill_calls.sh."""
import itertools

from common import Scratch, Tally, Unbroken, calls, each, number, require_built, run

OPTIONS = ["--checkpoint-every", "1", "--keep", "2", "--keep-every", "3", "--keep-best",
           "--val-every", "3"]
STEPS = 8


def count_calls(scratch, unbroken):
    """Of a run with nothing wrong. Threads take turns in another way each time: a few more or less
    come before the end."""
    folder = scratch.folder()
    ended = run(unbroken.train(folder / "run"), {"folder": folder, "trace": folder / "../trace"})
    trace = folder.parent / "trace"
    assert ended.code == 0, ended
    count = max(call["number"] for call in calls(trace))
    trace.unlink()
    return count


def check(scratch, unbroken, tally, kind, at):
    folder = scratch.folder()
    trace = scratch.path / f"trace-{folder.name}"
    broken = run(unbroken.train(folder / "run"),
                 {"folder": folder, "kind": kind, "at": at, "trace": trace})
    killed = [call for call in calls(trace) if call["operation"] == "kill"]
    last = list(calls(trace))[-1 if not killed or kind == "kill_before" else -2]
    trace.unlink()
    if broken.code == 0 and not killed:
        return False  # it made no call of that number
    problem = "" if broken.code == -9 else f"was not killed: {broken}"
    tally.add(f"{kind} {at}", problem or unbroken.finish(folder / "run"),
              f"{kind} {last['operation']}" if kind == "kill_after" else None)
    for path in sorted(folder.rglob("*"), reverse=True):
        path.unlink() if not path.is_dir() or path.is_symlink() else path.rmdir()
    return True


def main(most_kills):
    require_built()
    scratch = Scratch()
    unbroken = Unbroken(scratch, OPTIONS, STEPS)
    count = count_calls(scratch, unbroken)
    stride = -(-2 * count // most_kills)
    kills = list(itertools.product(("kill_before", "kill_after"), range(1, count + 1, stride)))
    print(f"{STEPS} steps, {count} file system calls", flush=True)
    tally = Tally(len(kills))
    each(kills, lambda case: check(scratch, unbroken, tally, *case))
    return tally.finish(least=len(kills) * 9 // 10)


if __name__ == "__main__":
    raise SystemExit(main(number(1_000_000)))

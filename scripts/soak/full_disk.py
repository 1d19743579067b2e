"""Runs on file systems in memory that are too small, in steps of one block. See full_disk.sh."""
import shutil
import subprocess

from common import Scratch, Tally, Unbroken, number, require_built, run, steps_saved

OPTIONS = ["--checkpoint-every", "1", "--keep", "2", "--val-every", "3", "--save-retries", "2",
           "--save-retry-seconds", "0.01"]
STEPS = 8
BLOCK = 4096  # bytes: what tmpfs counts in
ROOM = "16m"


def mount(folder, *options):
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "lathe-soak", folder],
                   check=True)


def check(unbroken, disk):
    """What is wrong with a run on a full disk, and how it ended."""
    folder = disk / "run"
    ended = run(unbroken.train(folder))
    kind = f"exit code {ended.code}"
    if ended.code == 0:
        return unbroken.difference(folder), kind
    if ended.code != 6:
        return str(ended), kind
    saved = folder.is_dir() and steps_saved(folder)
    if saved:
        kind += ", with checkpoints"
        verified = run(["verify", folder])
        evaluated = run(["eval", "--checkpoint", folder, "--val-tokens", "64"])
        if verified.code != 0 or evaluated.code != 0:
            return f"verify: {verified}; eval: {evaluated}", kind
    mount(disk, "remount", f"size={ROOM}")
    return unbroken.finish(folder), kind


def main(sizes):
    require_built()
    scratch = Scratch()
    unbroken = Unbroken(scratch, OPTIONS, STEPS)
    # The whole run fits into about this many blocks: sizes from nearly nothing on.
    most = 2 * sum(-(-path.stat().st_size // BLOCK) for path in unbroken.folder.rglob("*")
                   if path.is_file())
    tally = Tally(sizes)
    for i in range(sizes):
        blocks = 1 + i * most // sizes
        disk = scratch.folder()
        mount(disk, f"size={blocks * BLOCK}")
        problem, kind = check(unbroken, disk)
        tally.add(f"{blocks} blocks of {BLOCK} bytes", problem, kind)
        subprocess.run(["umount", disk], check=True)
        shutil.rmtree(disk)
    return tally.finish(least=sizes)


if __name__ == "__main__":
    raise SystemExit(main(number(64)))

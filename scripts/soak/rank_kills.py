"""Kills one of 4 ranks with -9, and goes on. See rank_kills.sh."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time

from common import LATHE, TIMEOUT, Scratch, Tally, Unbroken, number, require_built, result, start, steps_saved

RANKS = 4
STEPS = 60
SAVE_EVERY = 5
OPTIONS = ["--micro-batch", "1", "--batch-tokens", "128", "--checkpoint-every", str(SAVE_EVERY),
           "--keep", "0", "--val-every", "20"]
LIMIT = 10.0  # seconds from the death to the end of all
RECOVERY = "--enable-recovery"  # mpirun then leaves the other ranks alone

# Says which process a rank is, and how it ended; then waits for the others to say so, as mpirun ends
# all when a second one ends. Its TERM comes to both.
RANK = """trap : TERM
bash -c 'echo $$ >"$0.pid.$OMPI_COMM_WORLD_RANK"; exec "$@"' "$0" "$@"
code=$?
echo $code >"$0.code.$OMPI_COMM_WORLD_RANK"
[[ $code == 137 ]] || sleep 0.2
exit $code"""


def launcher(*more):
    return ["env", "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1",
            "OMPI_MCA_btl_vader_single_copy_mechanism=none",  # needs a right in containers
            "mpirun", "--oversubscribe", "--bind-to", "none", *more, "-n", str(RANKS)]


def has_made(folder, step):
    try:
        return f'"step":{step},' in (folder / "metrics.jsonl").read_text()
    except OSError:
        return False


def kill(unbroken, folder, victim, step, form):
    """Seconds from the death of rank `victim` after `step` to the end of all."""
    process = start(unbroken.train(folder), launcher=[*launcher(*form), "bash", "-c", RANK, folder])
    while not has_made(folder, step):
        if process.poll() is not None:
            return None
        time.sleep(0.001)
    os.kill(int(folder.with_name(f"{folder.name}.pid.{victim}").read_text()), signal.SIGKILL)
    began = time.monotonic()
    try:
        process.wait(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
    return time.monotonic() - began


def status(folder):
    """As lathe ls shows it."""
    listed = subprocess.run([LATHE, "ls", "--json", folder.parent], stdout=subprocess.PIPE, check=True)
    return json.loads(listed.stdout)[0]["status"]


def problem_of(unbroken, folder, victim, seconds):
    """What is wrong with how the ranks ended, and with how the run goes on."""
    if seconds is None:
        return "was over before the kill"
    if seconds > LIMIT:
        return f"{seconds:.1f} s from the death to the end"
    for rank in range(RANKS):
        path = folder.with_name(f"{folder.name}.code.{rank}")
        code = path.read_text().strip() if path.exists() else "none"
        if code != ("137" if rank == victim else "8"):
            return f"rank {victim} was killed, rank {rank} ended with exit code {code}"
    found = result(folder)
    told = (found["status"], found["exit_code"], str(found["error"])[:len("rank 0 on ")])
    if victim != 0 and told != ("failed", 8, f"rank {victim} on "):
        return f"result.json: {told}"
    if victim == 0 and status(folder) != "killed":
        return f"ls: {status(folder)}"
    if any(step % SAVE_EVERY for step in steps_saved(folder)):
        return f"saved {steps_saved(folder)}"
    return unbroken.finish(folder)


def main(cases):
    require_built()
    if shutil.which("mpirun") is None:
        print("not run: no mpirun here (openmpi-bin)")
        return 77
    scratch = Scratch()
    unbroken = Unbroken(scratch, OPTIONS, STEPS, launcher())
    tally = Tally(cases)
    slowest = 0
    for case in range(cases):  # one at a time: how long it takes is looked at
        form = [RECOVERY] if case % 2 else []
        victim = (case // 2 + case) % RANKS
        step = 1 + case // 2 % 50
        folder = scratch.folder() / "run"
        seconds = kill(unbroken, folder, victim, step, form)
        slowest = max(slowest, seconds or 0)
        tally.add(f"rank {victim} after step {step} {' '.join(form)}",
                  problem_of(unbroken, folder, victim, seconds), " ".join(["mpirun", *form]))
        shutil.rmtree(folder.parent)
    print(f"slowest: {slowest:.2f} s from the death of a rank to the end of all")
    return tally.finish(least=cases)


if __name__ == "__main__":
    sys.exit(main(number(100)))

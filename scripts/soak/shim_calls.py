"""Compares what the fault shim records of a run with what strace sees of it. See shim_calls.sh."""
import collections
import re
import subprocess

from common import (LATHE, SMALL, Scratch, Tally, calls, end_with_parent, environment, number,
                    require_built)

# What can change a file system or bring a change to the disk, by the name that the shim has for it.
# One that the shim does not know is there under its own name, and so is missed when it is used.
CHANGING = {"open": "open", "openat": "open", "openat2": "open", "creat": "open", "write": "write",
            "pwrite64": "write", "writev": "write", "pwritev": "write", "pwritev2": "write",
            "fsync": "fsync", "fdatasync": "fsync", "sync_file_range": "sync_file_range",
            "syncfs": "syncfs", "ftruncate": "ftruncate", "truncate": "truncate",
            "fallocate": "fallocate", "rename": "rename", "renameat": "rename",
            "renameat2": "rename", "mkdir": "mkdir", "mkdirat": "mkdir", "mknod": "mknod",
            "mknodat": "mknod", "unlink": "unlink", "unlinkat": "unlink", "rmdir": "rmdir",
            "symlink": "symlink", "symlinkat": "symlink", "link": "link", "linkat": "link",
            "copy_file_range": "copy_file_range", "sendfile": "sendfile", "splice": "splice",
            "chmod": "chmod", "fchmod": "chmod", "fchmodat": "chmod", "utimensat": "utimensat",
            "ioctl": "ioctl", "io_uring_enter": "io_uring_enter"}
# A call that another thread's comes into is "unfinished"; its other half has no name and arguments.
LINE = re.compile(r"^\d+ +(\w+)\((.*)(?:\) += \S+|<unfinished \.\.\.>)")
WRITING = ("O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC")


def seen_by_strace(log, folder):
    counts = collections.Counter()
    for line in log.read_text(errors="replace").splitlines():
        match = LINE.match(line)
        if not match or str(folder) not in match[2]:
            continue
        name, arguments = match.groups()
        operation = CHANGING.get(name)
        if name == "mmap" and "PROT_WRITE" in arguments and "MAP_SHARED" in arguments:
            operation = "mmap"
        if name == "unlinkat" and "AT_REMOVEDIR" in arguments:
            operation = "rmdir"
        # A folder that is opened to be listed changes nothing, and the C library opens it inside.
        if operation == "open" and not any(flag in arguments for flag in WRITING):
            continue
        if operation is not None:
            counts[operation] += 1
    return counts


def seen_by_shim(trace):
    writing = 0o1 | 0o2 | 0o100 | 0o1000  # O_WRONLY, O_RDWR, O_CREAT, O_TRUNC
    counts = collections.Counter()
    for call in calls(trace):
        is_reading = call["operation"] == "open" and not call["flags"] & writing
        if call["operation"] not in ("session", "close") and not is_reading:
            counts[call["operation"]] += 1
    return counts


def check(scratch, more):
    folder = scratch.folder()
    log, trace = scratch.path / "strace.log", scratch.path / "trace"
    for path in (log, trace):
        path.unlink(missing_ok=True)
    preload = environment({"folder": folder, "trace": trace})
    # strace itself must not be followed by the shim.
    shim = [f"--env={name}={value}" for name, value in preload.items()
            if name == "LD_PRELOAD" or name.startswith("FAULT_SHIM_")]
    command = ["strace", "-f", "-y", "-s", "0", "--signal=none", "-e", "trace=%file,%desc",
               "-o", log, *shim, LATHE, "train", *SMALL, "--steps", "4", "--checkpoint-every", "1",
               "--keep", "1", "--val-every", "2", "--out", folder / "run", *more]
    ended = subprocess.run(command, env=environment(), stdin=subprocess.DEVNULL, check=False,
                           stdout=subprocess.DEVNULL, preexec_fn=end_with_parent)
    if ended.returncode != 0:
        return f"exit code {ended.returncode}", collections.Counter()
    strace, shim = seen_by_strace(log, folder), seen_by_shim(trace)
    if strace == shim and sum(shim.values()) > 0:
        return "", shim
    missed = {name: (strace[name], shim[name]) for name in strace | shim
              if strace[name] != shim[name]}
    return f"calls that strace and the shim have seen: {missed}", shim


def main(runs):
    require_built()
    scratch = Scratch()
    kinds = [[], ["--no-background-save"], ["--keep-every", "2", "--keep-best"],
             ["--precision", "bf16", "--llmc-log"]]
    tally = Tally(runs)
    for i in range(runs):
        problem, seen = check(scratch, kinds[i % len(kinds)])
        for operation, count in sorted(seen.items()):
            tally.note(operation, count)
        tally.add(" ".join(kinds[i % len(kinds)]) or "as it is", problem)
    return tally.finish(least=runs)


if __name__ == "__main__":
    raise SystemExit(main(number(4)))

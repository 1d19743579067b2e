"""What a measurement has to say of where it was made."""
import contextlib
import mmap
import os
import pathlib
import platform
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def processor():
    with open("/proc/cpuinfo") as info:
        return next((line.split(":")[1].strip() for line in info if line.startswith("model name")), platform.machine())


def commit():
    return subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True,
                          check=False).stdout.strip()


def bring_back_memory(count=3 << 30):
    """A virtual machine gives memory that nobody uses back to its host, and gets it again ten times as slowly as
    it could clear it. So that a start-up is not measured by that: takes `count` bytes, and frees them."""
    populate = 23  # MADV_POPULATE_WRITE of Linux 5.14
    with contextlib.suppress(OSError), mmap.mmap(-1, count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_HUGEPAGE)
        memory.madvise(populate)


def surroundings(threads):
    return {"processor": processor(), "processors": os.cpu_count(), "threads": threads,
            "date": time.strftime("%Y-%m-%d"), "commit": commit(), "load_before": os.getloadavg()[0]}

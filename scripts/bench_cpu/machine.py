"""What a measurement has to say of where it was made."""
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


def surroundings(threads):
    return {"processor": processor(), "processors": os.cpu_count(), "threads": threads,
            "date": time.strftime("%Y-%m-%d"), "commit": commit(), "load_before": os.getloadavg()[0]}

"""Damages a checkpoint bit by bit and length by length; all of it must be found. See bit_flips.sh."""
import subprocess
import sys

from common import DISK_STATES, Scratch, Unbroken, number, require_built


def main(payload_flips):
    """With few flips, also but every 16th bit and length."""
    require_built()
    scratch = Scratch()
    unbroken = Unbroken(scratch, [], 2)
    checkpoint = unbroken.folder / "checkpoints/step-00000002"
    stride = 1 if payload_flips >= 20000 else 16
    sys.stdout.flush()
    return subprocess.run([DISK_STATES, "bit_flips", checkpoint, str(payload_flips), str(stride), "1"],
                          check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main(number(20000)))

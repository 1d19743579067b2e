"""Runs one side and looks at it: when it says that a step is done, and how much memory it has taken."""
import os
import re
import subprocess
import tempfile
import time

STEP_LINE = re.compile(r"step (\d+)/\d+ .*?loss ([0-9.]+)")


class Failed(Exception):
    """A side that did not get to its end; says why in a line."""


class Watched:
    """What a program said: steps of training with the time at which each came, and other lines. The clock
    is that on the wall, or the processor time that the program has taken. At `last_step` it is ended: what
    comes after, a checkpoint and a sample, is not measured."""

    def __init__(self, command, environment=None, clock="wall", last_step=None):
        self.clock, self.last_step = clock, last_step
        self.seconds_at = {}  # step -> since the start of the program
        self.losses = {}      # step -> what the program said
        self.peak_bytes = 0   # of resident memory
        self.other_lines = []
        self._run([str(word) for word in command], environment)

    def _run(self, command, environment):
        began = time.perf_counter()
        with tempfile.TemporaryFile("w+") as errors, subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, text=True,
                env=os.environ | (environment or {})) as process:
            for line in process.stdout:
                now = processor_seconds(process.pid) if self.clock == "processor" else time.perf_counter() - began
                self.peak_bytes = max(self.peak_bytes, peak_bytes(process.pid))
                step = STEP_LINE.match(line)
                if step:
                    self.seconds_at[int(step[1])] = now
                    self.losses[int(step[1])] = float(step[2])
                    if int(step[1]) == self.last_step:
                        process.kill()
                        break
                else:
                    self.other_lines.append(line.rstrip("\n"))
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            errors.seek(0)
            said = errors.read()
        # Where it was gone before its last line was read. (This has that of its parent in it, some MB.)
        self.peak_bytes = self.peak_bytes or 1024 * usage.ru_maxrss
        if process.returncode != 0 and self.last_step not in self.losses:
            raise Failed(f"{command[0]} ended with {process.returncode}: {last_line(said)}")

    def seconds_per_step(self):
        """Of each part but the first, which warms up."""
        steps = sorted(self.seconds_at)
        return [(self.seconds_at[after] - self.seconds_at[before]) / (after - before)
                for before, after in zip(steps, steps[1:])]


def last_line(text):
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def processor_seconds(pid):
    """Of all threads of a program that still runs."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime


def peak_bytes(pid):
    """VmHWM of a program that still runs, or 0."""
    try:
        with open(f"/proc/{pid}/status") as status:
            return next((1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM:")), 0)
    except OSError:
        return 0

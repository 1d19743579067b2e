#!/usr/bin/env python3
"""What scripts/gpu_check.sh reads off files and machines. Results go to stdout; exit code 1 says that a
comparison failed.

    gpu_read.py steps RUN REFERENCE RELATIVE     compares two runs' losses and gradient norms
    gpu_read.py machine                          GPU, driver, processor, versions
    gpu_read.py bench LATHE NAME LAYERS CHANNELS SEQ_LEN MICRO_BATCHES -- OPTIONS
                                                 lathe bench, with the first of 16,8,4 that fits
    gpu_read.py list FILE                        a file of JSON lines as one list
    gpu_read.py field FILE KEY                   one value of a JSON file
"""
import json
import os
import pathlib
import platform
import subprocess
import sys

OUT_OF_MEMORY = 5  # lathe's exit code


# What is compared of a training step, and how many times the tolerance it may differ: a norm is not a
# mean over tokens, as the loss is.
COMPARED = {"train/loss": 1, "train/grad_norm": 10}


def steps_of(run):
    lines = [json.loads(line) for line in (pathlib.Path(run) / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line for line in lines if "train/loss" in line}


def compare_steps(actual, expected, relative):
    """The tolerance grows with the step: each update carries the rounding of those before it along.
    Returns whether all are close, and a line that says how close."""
    if not expected or actual.keys() != expected.keys():
        return False, f"steps {sorted(actual)} against {sorted(expected)}"
    is_close, parts = True, []
    for metric, factor in COMPARED.items():
        shares = {}  # of the tolerance
        for step, line in expected.items():
            error = abs(actual[step][metric] - line[metric]) / abs(line[metric])
            shares[step] = error / (factor * relative * step)
            is_close = is_close and shares[step] <= 1  # false for NaN
        worst = max(shares, key=shares.get)
        parts.append(f"{metric} differs by {shares[worst] * factor * relative * worst:.1e} at step {worst}, "
                     f"{100 * shares[worst]:.0f} % of what is allowed")
    return is_close, f"{len(expected)} steps: " + "; ".join(parts)


def steps(run, reference, relative):
    is_close, line = compare_steps(steps_of(run), steps_of(reference), float(relative))
    print(line)
    return 0 if is_close else 1


def said(*command):
    """What a command prints, or nothing where it is missing."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def machine():
    gpu = said("nvidia-smi", "--query-gpu=name,memory.total,driver_version,compute_cap",
               "--format=csv,noheader")
    first = lambda text: text.splitlines()[0] if text else ""
    facts = {"GPU, memory, driver, compute capability": gpu,
             "processor cores": os.cpu_count(), "system": platform.platform(),
             "nvcc": (said("nvcc", "--version").splitlines() or [""])[-1],
             "g++": first(said("g++", "--version")), "cmake": first(said("cmake", "--version")),
             "PyTorch": said(sys.executable, "-c", "import torch; print(torch.__version__)"),
             "commit": said("git", "rev-parse", "HEAD")}
    print(json.dumps({name: fact for name, fact in facts.items() if fact}))


def bench(lathe, name, layers, channels, seq_len, micro_batches, _, *options):
    for micro_batch in micro_batches.split(","):
        done = subprocess.run([lathe, "bench", "--json", f"--micro-batch={micro_batch}",
                               f"--seq-len={seq_len}", *options], stdout=subprocess.PIPE, text=True)
        if done.returncode != OUT_OF_MEMORY:
            break
    if done.returncode != 0:
        return 1
    print(json.dumps({"name": name, "layers": int(layers), "channels": int(channels),
                      "seq_len": int(seq_len), "micro_batch": int(micro_batch),
                      "bench": json.loads(done.stdout)}))
    return 0


def json_list(path):
    print(json.dumps([json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]))


def field(path, key):
    print(json.loads(pathlib.Path(path).read_text())[key])


COMMANDS = {"steps": steps, "machine": machine, "bench": bench, "list": json_list,
            "field": field}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        raise SystemExit(__doc__)
    try:
        sys.exit(COMMANDS[sys.argv[1]](*sys.argv[2:]) or 0)
    except OSError as error:
        sys.exit(f"gpu_read.py: {error}")

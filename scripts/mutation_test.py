#!/usr/bin/env python3
"""Plants the faults of tests/faults.toml in the CUDA kernels, one at a time, and says which the tests
catch. Needs nvcc; scripts/mutation_test.sh builds what this starts from.

    scripts/mutation_test.py [--jobs N] [WORD]    only faults with WORD in file, test or what they replace

A fault's kernel is compiled alone, to PTX, and linked in place of the right one.
Exit code 1 when fewer than 95 % are caught.
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
KERNELS = ROOT / "kernels/cuda"
SECONDS_PER_TEST = 120


def command_of(target):
    """The shell command by which ninja makes a target of the build."""
    lines = subprocess.run(["ninja", "-C", BUILD, "-t", "commands", target], check=True,
                           capture_output=True, text=True).stdout.splitlines()
    return next(line for line in reversed(lines) if f"-o {target}" in line)


def source_of(fault):
    """The kernel to compile: the file itself, or for a header the fault's `source`, or the file of the
    test's operation."""
    path = pathlib.Path(fault["file"])
    if path.suffix == ".cu":
        return path.name
    if "source" in fault:
        return fault["source"]
    return fault["test"].removeprefix("cuda_").removesuffix("_test") + ".cu"


def compile_kernel(folder, name):
    command = command_of(f"CMakeFiles/lathe_cuda.dir/kernels/cuda/{name}.o")
    command = command.replace(str(KERNELS), str(folder))
    command = re.sub(r"--generate-code=\S+", "", command)
    command = re.sub(r"-MD -MT \S+ -MF \S+", "", command)
    command = re.sub(r"-o \S+", f"-o {folder}/fault.o -gencode=arch=compute_90a,code=compute_90a", command)
    return subprocess.run(command, shell=True, cwd=BUILD, capture_output=True, text=True)


def link_test(folder, test, name):
    command = command_of(f"tests/{test}").split("&&")[1]
    command = command.replace(f"-o tests/{test} ", f"-o {folder}/{test} ")
    command = command.replace(f"CMakeFiles/lathe_cuda.dir/kernels/cuda/{name}.o", f"{folder}/fault.o")
    return subprocess.run(command, shell=True, cwd=BUILD, capture_output=True, text=True)


def passes(program, order):
    environment = {**os.environ, "LATHE_PTX_ORDER": order}
    try:
        return subprocess.run([program], env=environment, capture_output=True,
                              timeout=SECONDS_PER_TEST).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def outcome(fault):
    """caught, survived, or why the fault could not be planted."""
    with tempfile.TemporaryDirectory() as parent:
        folder = pathlib.Path(parent) / "kernels"
        shutil.copytree(KERNELS, folder)
        file = folder / pathlib.Path(fault["file"]).name
        text = file.read_text()
        if fault["find"] not in text:
            return "is not in the file any more"
        file.write_text(text.replace(fault["find"], fault["put"], 1))
        name = source_of(fault)
        for step in (compile_kernel(folder, name), link_test(folder, fault["test"], name)):
            if step.returncode != 0:
                return "does not build: " + (step.stderr + step.stdout)[-600:]
        if all(passes(folder / fault["test"], order) for order in ("forward", "reverse")):
            return "survived"
        return "caught"


def describe(fault):
    return f"{fault['file']}: {' '.join(fault['find'].split())} -> {' '.join(fault['put'].split()) or 'nothing'}"


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("word", nargs="?", default="")
    args = parser.parse_args()
    faults = [fault for fault in tomllib.loads((ROOT / "tests/faults.toml").read_text())["fault"]
              if any(args.word in fault[key] for key in ("file", "test", "find"))]
    for test in sorted({fault["test"] for fault in faults}):
        if not all(passes(BUILD / "tests" / test, order) for order in ("forward", "reverse")):
            sys.exit(f"{test} fails without any fault")
    caught = 0
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for fault, result in zip(faults, pool.map(outcome, faults)):
            caught += result == "caught"
            print(f"{result:9} {describe(fault)}", flush=True)
    print(f"caught {caught} of {len(faults)}")
    sys.exit(caught < 0.95 * len(faults))


if __name__ == "__main__":
    main()

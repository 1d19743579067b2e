#!/usr/bin/env python3
"""Plants the faults of tests/faults.toml in the CUDA kernels, one at a time, and says which the tests
catch. Needs nvcc; scripts/mutation_test.sh builds what this starts from.

    scripts/mutation_test.py [--jobs N] [WORD]    only faults with WORD in file, test or what they replace

The faulty file is compiled alone, a kernel only to PTX, and linked in the place of the right one.
Exit code 1 when fewer than 95 of 100 are caught.
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
KERNELS = ROOT / "kernels/cuda"
CPU_SECONDS_PER_TEST = 120  # a fault that never ends is caught; a busy machine catches nothing


def command_of(target):
    """The shell command by which ninja makes a target of the build."""
    lines = subprocess.run(["ninja", "-C", BUILD, "-t", "commands", target], check=True,
                           capture_output=True, text=True).stdout.splitlines()
    return next(line for line in reversed(lines) if f"-o {target}" in line)


def source_of(fault):
    """The file to compile: itself, or for a header the fault's `source`, or the file of the test's
    operation."""
    path = pathlib.Path(fault["file"])
    if path.suffix in (".cu", ".cpp"):
        return path.name
    if "source" in fault:
        return fault["source"]
    return fault["test"].removeprefix("cuda_").removesuffix("_test") + ".cu"


def object_of(name):
    return f"CMakeFiles/lathe_cuda.dir/kernels/cuda/{name}.o"


def compile_source(folder, name):
    command = command_of(object_of(name))
    command = command.replace(str(KERNELS), str(folder))
    ptx = " -gencode=arch=compute_90a,code=compute_90a" if name.endswith(".cu") else ""
    command = re.sub(r"-gencode=\S+", "", command)
    command = re.sub(r"-MD -MT \S+ -MF \S+", "", command)
    command = re.sub(r"-o \S+", f"-o {folder}/fault.o{ptx}", command)
    return subprocess.run(command, shell=True, cwd=BUILD, capture_output=True, text=True)


def link_test(folder, name, test):
    command = command_of(f"tests/{test}").split("&&")[1]
    command = command.replace(f"-o tests/{test} ", f"-o {folder}/{test} ")
    command = command.replace(f" {object_of(name)} ", f" {folder}/fault.o ")
    return subprocess.run(command, shell=True, cwd=BUILD, capture_output=True, text=True)


def passes(program, order):
    environment = {**os.environ, "LATHE_PTX_ORDER": order}
    limited = ["prlimit", f"--cpu={CPU_SECONDS_PER_TEST}", program]
    return subprocess.run(limited, env=environment, capture_output=True).returncode == 0


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
        for step in (lambda: compile_source(folder, name),
                     lambda: link_test(folder, name, fault["test"])):
            if (done := step()).returncode != 0:
                return "does not build: " + (done.stderr + done.stdout)[-600:]
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

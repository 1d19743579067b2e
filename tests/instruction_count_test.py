#!/usr/bin/env python3
"""A training step takes no more instructions than it did: a guard of the CPU backend's speed that needs
no quiet machine, since counts repeat where seconds do not.

valgrind's callgrind counts, in fp32 and one thread, what Lathe's own code does within the steps. oneDNN and
what it generates are not counted: they depend on the processor's caches. Lathe's own code does not, and
valgrind shows it a processor with AVX2 whatever there is. So this is also where what Lathe has twice, for AVX2 and
for AVX-512 (kernels/cpu/wide.h), is compared: the losses must be those of the processor at hand.

Fails when a count is more than TOLERANCE above tests/instruction_counts.json, and says so when one is as much
below; `tests/instruction_count_test.py --record` writes that file anew. Without valgrind, or built by
another compiler than the recorded one, it says so and exits with 77.
"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
RECORD = ROOT / "tests/instruction_counts.json"
LATHE = pathlib.Path(os.environ.get("LATHE_BINARY", ROOT / "build/lathe"))
TOLERANCE = 0.02
SKIPPED = 77

# Each of them small, and each with most of its instructions elsewhere.
CASES = {
    "short sequences": "--layers=1 --heads=2 --channels=64 --context=16 --micro-batch=8",
    "long sequences": "--layers=1 --heads=2 --channels=32 --context=256 --micro-batch=1",
    "large vocabulary": "--layers=1 --heads=1 --channels=32 --context=16 --micro-batch=1 --vocab=8192",
}
STEPS = 2


def self_costs(profile):
    """Instructions of each object (program, library, "???" for code made while running), without those
    of the functions that it calls."""
    names, costs, current, is_call = {}, {}, "???", False
    for line in profile.read_text().splitlines():
        named = re.fullmatch(r"(c?ob)=\((\d+)\)(?: (.*))?", line)
        if named:
            kind, number, name = named.groups()
            names.setdefault(number, name)  # a name stands behind its number's first use alone
            current = names[number] if kind == "ob" else current
        elif line.startswith("calls="):
            is_call = True  # the next line is what that has cost
        elif line[:1] in "0123456789+-*" and line:
            if not is_call:
                costs[current] = costs.get(current, 0) + int(line.split()[1])
            is_call = False
    return costs


def train(folder, case, *under, precision="fp32"):
    """The first steps of a run, under a program or not; its env.json and losses."""
    text = pathlib.Path(folder) / "text.txt"
    text.write_text("".join(f"line {i * i} of the text\n" for i in range(1000)))
    command = [*under, str(LATHE), "train", "--quiet", "--train", str(text), "--out", f"{folder}/run",
               "--device=cpu", "--threads=1", f"--precision={precision}", "--val-every=0", "--val-tokens=1",
               "--checkpoint-every=0", "--steps=100", f"--stop-at-step={STEPS}", *CASES[case].split()]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LATHE_")} | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        sys.exit(f"instruction_count_test.py: {' '.join(command)}: exit {done.returncode}\n{done.stderr}")
    run = pathlib.Path(folder) / "run"
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return json.loads((run / "env.json").read_text()), [line["train/loss"] for line in metrics if "train/loss" in line]


def require_same_losses(what, losses, expected):
    if len(losses) != STEPS or any(not abs(a - b) <= 1e-6 * b for a, b in zip(losses, expected, strict=True)):
        sys.exit(f"instruction_count_test.py: {what}: losses {losses} with AVX2, {expected} with what there is")


def compare_losses(case, precision):
    with tempfile.TemporaryDirectory() as folder:
        _, expected = train(folder, case, precision=precision)
    with tempfile.TemporaryDirectory() as folder:
        _, losses = train(folder, case, "valgrind", "--tool=none", precision=precision)
    require_same_losses(f"{case} in {precision}", losses, expected)


def count(case):
    """Instructions of Lathe's own code in the steps."""
    with tempfile.TemporaryDirectory() as folder:
        _, expected = train(folder, case)
    with tempfile.TemporaryDirectory() as folder:
        profile = pathlib.Path(folder) / "profile"
        _, losses = train(folder, case, "valgrind", "--tool=callgrind", f"--callgrind-out-file={profile}",
                          "--toggle-collect=lathe::Trainer::train_step()")
        require_same_losses(case, losses, expected)
        instructions = sum(cost for name, cost in self_costs(profile).items()
                           if os.path.realpath(name) == os.path.realpath(LATHE))
    if instructions == 0:
        sys.exit("instruction_count_test.py: nothing is counted: is there no lathe::Trainer::train_step() now?")
    return instructions


def skip(why):
    print(f"instruction_count_test.py did not run: {why}")
    sys.exit(SKIPPED)


def record(facts, counts):
    date, commit = (subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()
                    for command in (["date", "-u", "+%F"], ["git", "describe", "--always", "--dirty"]))
    RECORD.write_text(json.dumps({
        "machine": facts["cpu"]["model"],
        "compiler": facts["build"]["compiler"],
        "type": facts["build"]["type"],
        "date": date,
        "commit": commit,
        "instructions": counts,
    }, indent=2) + "\n")
    print(f"wrote {RECORD}")


def compare(counts, recorded):
    """Whether no case takes more than it did."""
    grown = False
    for case, before in recorded.items():
        change = counts[case] / before - 1
        print(f"{case}: {counts[case]:,} instructions, recorded {before:,}: {change:+.2%}")
        if change > TOLERANCE:
            grown = True
            print(f"  FAILED: more than {TOLERANCE:.0%} above the record")
        elif change < -TOLERANCE:
            print("  fewer: record anew with tests/instruction_count_test.py --record")
    return not grown


def main():
    if shutil.which("valgrind") is None:
        skip("no valgrind here")
    with tempfile.TemporaryDirectory() as folder:
        facts, _ = train(folder, "short sequences")
    if sys.argv[1:] == ["--record"]:
        return record(facts, {case: count(case) for case in CASES})
    recorded = json.loads(RECORD.read_text())
    for fact in ("compiler", "type"):
        if facts["build"][fact] != recorded[fact]:
            skip(f"the record is of {recorded[fact]}, this build of {facts['build'][fact]}")
    compare_losses("long sequences", "bf16")
    counts = {case: count(case) for case in CASES}
    if not compare(counts, recorded["instructions"]):
        sys.exit(1)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""The command of scripts/bench_cpu.sh: measures cases, prints a table in Markdown, writes JSON."""
import argparse
import dataclasses
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

import cases
import lathe_side
import machine
import measure
import processes

HERE = pathlib.Path(__file__).resolve().parent
UNITS = {"Training": ("ms a step", 1e3), "Sampling": ("ms a token", 1e3), "StartUp": ("ms to the first step", 1e3)}


def parse_arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench_cpu.sh", description=__doc__)
    parser.add_argument("--cases", metavar="a,c",
                        help="all, or some: " + "; ".join(f"{name}: {' and '.join(c.title for c in some)}"
                                       for name, some in cases.CASES.items()))
    parser.add_argument("--rounds", type=int, help="how often both sides run in turns (3, with --smoke 1)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--precisions", metavar="fp32,bf16", default=",".join(cases.PRECISIONS), help="both, or one")
    parser.add_argument("--eager", action="store_true", help="leave torch.compile out, which takes minutes")
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall",
                        help="processor: the processor time of training and start-up, for a machine that others use too")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="what was measured, all of it")
    parser.add_argument("--smoke", action="store_true", help="small models: shows that it works, and no speed")
    parser.add_argument("--lathe", type=pathlib.Path, default=os.environ.get("LATHE_BINARY", machine.ROOT / "build/lathe"))
    parser.add_argument("--python", default=sys.executable, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    table = cases.SMOKE_CASES if arguments.smoke else cases.CASES
    arguments.rounds = arguments.rounds if arguments.rounds is not None else 1 if arguments.smoke else 3
    arguments.cases = {name: table.get(name) for name in (arguments.cases or ",".join(table)).split(",")}
    unknown = [name for name, found in arguments.cases.items() if found is None]
    if unknown:
        parser.error(f"--cases {unknown[0]}: must be of {', '.join(table)}")
    arguments.precisions = arguments.precisions.split(",")
    for name in arguments.precisions:
        if name not in cases.PRECISIONS:
            parser.error(f"--precisions {name}: must be of {', '.join(cases.PRECISIONS)}")
    if arguments.rounds < 1 or arguments.threads < 1:
        parser.error("--rounds and --threads must be at least 1")
    if not os.access(arguments.lathe, os.X_OK):
        parser.error(f"--lathe {arguments.lathe}: no such program; cmake --build build --target lathe")
    return arguments


def prepare(work, lathe, pytorch, case):
    """The model and the tokens that both sides start from."""
    pytorch.write_model(case.sizes)
    if isinstance(case, cases.Sampling):
        subprocess.run([lathe.binary, "convert", work / "model.safetensors", "--out", work / "hf", "--overwrite"],
                       check=True, stdout=subprocess.DEVNULL)
        return
    steps = 1 if isinstance(case, cases.StartUp) else case.steps()
    lathe_side.write_tokens(work / "tokens.bin", learnable_tokens(steps * case.rows * case.seq_len + 1, case.sizes.vocab))


def learnable_tokens(count, vocab):
    """Each is one of eight that its predecessor allows: a loss falls for long, towards ln 8, so that what is
    not the same on both sides shows in it."""
    numbers = random.Random(1)
    tokens = [0]
    while len(tokens) < count:
        tokens.append((3 * tokens[-1] + 1 + numbers.randrange(8)) % vocab)
    return tokens


def megabytes(side):
    return f"{side['peak_bytes'] / 1e6:.0f}" if side["peak_bytes"] else "-"


def print_table(rows):
    print("| | | Lathe | spread | PyTorch | spread | its setting | times as fast | rounds | memory, MB | loss |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        unit, scale = UNITS[row["kind"]]
        ours, theirs = row["lathe"], row["pytorch"][row["setting"]]
        between = f"{min(row['ratios']):.2f} to {max(row['ratios']):.2f}"
        losses = " / ".join(f"{loss:.4f}" for loss in row["loss"] if loss is not None) or {
            True: "same tokens", None: "not compared", False: "OTHER TOKENS"}[row["agree"]]
        print(f"| {row['case']}: {row['title']}, {unit} | {row['precision']} | {scale * ours['seconds']:.4g} "
              f"| {100 * ours['spread']:.0f} % | {scale * theirs['seconds']:.4g} | {100 * theirs['spread']:.0f} % "
              f"| {row['setting']} | {row['ratio']:.2f} | {between} | {megabytes(ours)} / {megabytes(theirs)} "
              f"| {losses} |")


def measure_all(arguments, folder):
    work = folder / "work"
    work.mkdir()
    lathe = lathe_side.Lathe(arguments.lathe, work, arguments.threads, arguments.clock)
    pytorch = measure.PyTorch(arguments.python, HERE / "pytorch_side.py", work, arguments.threads, arguments.clock)
    report = {**machine.surroundings(arguments.threads), "rounds": arguments.rounds,
              "clock": arguments.clock, **pytorch.versions(), "rows": []}
    say = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731
    for name, some in arguments.cases.items():
        for case in some:
            if arguments.eager and hasattr(case, "compiled"):
                case = dataclasses.replace(case, compiled=False)
            if isinstance(case, cases.Sampling) and "transformers" not in report:
                say(f"{name}: {case.title}: left out, there is no transformers")
                continue
            say(f"{name}: {case.title}")
            prepare(work, lathe, pytorch, case)
            for precision in measure.precisions_of(case):
                if precision not in arguments.precisions:
                    continue
                row = measure.measure((lathe, pytorch), case, precision, arguments.rounds, say)
                report["rows"].append({"case": name, **row})
    return {**report, "load_after": os.getloadavg()[0]}


def main():
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="lathe-bench-") as folder:
        try:
            report = measure_all(arguments, pathlib.Path(folder))
        except processes.Failed as failure:
            raise SystemExit(f"scripts/bench_cpu.sh: {failure}") from failure
    print(f"{report['processor']}, {report['threads']} threads of {report['processors']}; {report['date']}, commit "
          f"{report['commit']}, PyTorch {report['pytorch']}, transformers {report.get('transformers', 'none')}; "
          f"{report['rounds']} rounds, {report['clock']} time; load average {report['load_before']:.1f} before, "
          f"{report['load_after']:.1f} after\n")
    print_table(report["rows"])
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    different = [f"{row['case']} {row['precision']}" for row in report["rows"] if row["agree"] is False]
    if different:
        raise SystemExit(f"scripts/bench_cpu.sh: Lathe and PyTorch did not do the same in: {', '.join(different)}")


if __name__ == "__main__":
    main()

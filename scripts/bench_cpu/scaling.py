"""How Lathe's training step grows: with threads, with tokens in a sequence, with layers. Prints Markdown.

    scripts/bench_scaling.sh [--model gpt2|tiny] [--precision fp32|bf16] [--rounds N] [--parts threads,tokens,layers]
                             [--threads N] [--lathe build/lathe]

Each number is a median over the rounds; within a round what is compared runs in turns, so that a busy moment
of the machine hits all alike. --threads is the most that are used; the other tables use all of them.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess

import machine

ROWS = {"gpt2": 1, "tiny": 4}
SHORT = {"gpt2": 64, "tiny": 64}
LENGTHS = {"gpt2": (64, 128, 256, 512, 1024), "tiny": (16, 32, 64, 128)}
LAYERS = {"gpt2": (3, 6, 12, 24), "tiny": (2, 4, 8, 16)}
TOKENS = 1024  # of a step where the length of a sequence changes, so that only attention does


def bench(arguments, **options):
    command = [arguments.lathe, "bench", "--json", "--no-floor", "--device=cpu", "--steps=3", f"--model={arguments.model}",
               f"--precision={arguments.precision}"]
    command += [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def in_turns(arguments, settings):
    """Median milliseconds of a step of each setting, and what bench said of its first round."""
    rounds = [[bench(arguments, **setting) for setting in settings] for _ in range(arguments.rounds)]
    return [(statistics.median(one["step_ms"] for one in same), same[0]) for same in zip(*rounds)]


def share_of(said, *names):
    total = sum(operation["ms"] for operation in said["operations"])
    return sum(operation["ms"] for operation in said["operations"] if operation["name"] in names) / total


def threads_table(arguments):
    counts = [count for count in (1, 2, 4, 8, 16, 32) if count <= arguments.threads]
    rows, length = ROWS[arguments.model] * 4, SHORT[arguments.model]
    found = in_turns(arguments, [{"threads": n, "micro_batch": rows, "seq_len": length} for n in counts])
    print(f"\n| threads, B={rows} T={length} | ms a step | times as fast as 1 | efficiency |\n|---|---|---|---|")
    for count, (ms, _) in zip(counts, found):
        print(f"| {count} | {ms:.1f} | {found[0][0] / ms:.2f} | {100 * found[0][0] / ms / count:.0f} % |")


def tokens_table(arguments):
    lengths = LENGTHS[arguments.model]
    found = in_turns(arguments, [{"threads": arguments.threads, "micro_batch": TOKENS // length, "seq_len": length}
                                 for length in lengths])
    print(f"\n| T, {TOKENS} tokens a step | us a token | of the shortest | attention's share |\n|---|---|---|---|")
    for length, (ms, said) in zip(lengths, found):
        share = share_of(said, "attention_forward", "attention_backward")
        print(f"| {length} | {1e3 * ms / TOKENS:.1f} | {ms / found[0][0]:.2f} | {100 * share:.1f} % |")


def layers_table(arguments):
    counts, rows, length = LAYERS[arguments.model], ROWS[arguments.model] * 4, SHORT[arguments.model]
    found = in_turns(arguments, [{"threads": arguments.threads, "layers": n, "micro_batch": rows, "seq_len": length}
                                 for n in counts])
    print(f"\n| layers, B={rows} T={length} | ms a step | parameters | ms for each further layer |\n|---|---|---|---|")
    before = None
    for count, (ms, said) in zip(counts, found):
        step = "" if before is None else f"{(ms - before[1]) / (count - before[0]):.2f}"
        print(f"| {count} | {ms:.1f} | {said['parameters']} | {step} |")
        before = (count, ms)


TABLES = {"threads": threads_table, "tokens": tokens_table, "layers": layers_table}


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--model", choices=sorted(ROWS), default="gpt2")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", default=",".join(TABLES), type=lambda text: text.split(","))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--lathe", type=pathlib.Path, default=machine.ROOT / "build/lathe")
    arguments = parser.parse_args()
    unknown = [part for part in arguments.parts if part not in TABLES]
    if unknown:
        parser.error(f"--parts {unknown[0]}: must be of {', '.join(TABLES)}")
    if arguments.rounds < 1:
        parser.error("--rounds: must be at least 1")
    here = machine.surroundings(arguments.threads)
    print(f"`scripts/bench_scaling.sh --model {arguments.model} --precision {arguments.precision}`, {here['processor']}, "
          f"{here['threads']} threads of {here['processors']}, {here['date']}, commit {here['commit']}, load average "
          f"{here['load_before']:.1f}")
    for part in arguments.parts:
        TABLES[part](arguments)


if __name__ == "__main__":
    main()

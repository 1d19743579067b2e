#!/usr/bin/env python3
"""How much faster `lathe sample` is with keys and values kept: both ways in turns, in one run.

    scripts/bench_sampling.py CHECKPOINT [--lathe build/lathe] [--length 512] [--tokens 16] [--rounds 3] [--whole]

CHECKPOINT is of a model of bytes, whose context is LENGTH at least. Prints the time of a token around
LENGTH tokens, the best of the rounds, and with --whole that of a whole text of LENGTH.
"""
import argparse
import json
import subprocess
import tempfile


def sample(args, prompt_file, tokens, cache):
    command = [args.lathe, "sample", "--checkpoint", args.checkpoint, "--json", "--prompt-file", prompt_file,
               "--max-tokens", str(tokens), "--temperature", "1", "--kv-cache" if cache else "--no-kv-cache"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def seconds_per_token(result):
    return (result["seconds"] - result["seconds_to_first_token"]) / (result["tokens"] - 1)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("--lathe", default="build/lathe")
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--whole", action="store_true")
    args = parser.parse_args()
    with tempfile.NamedTemporaryFile() as long, tempfile.NamedTemporaryFile() as short:
        long.write(b"a" * (args.length - args.tokens))
        short.write(b"a")
        long.flush(), short.flush()
        at_length, whole = {True: [], False: []}, {True: [], False: []}
        for _ in range(args.rounds):
            for cache in (True, False):
                at_length[cache].append(seconds_per_token(sample(args, long.name, args.tokens, cache)))
        for cache in (True, False) if args.whole else ():
            whole[cache].append(sample(args, short.name, args.length - 1, cache)["seconds"])
    for what, times in (("a token", at_length), ("the whole", whole)) if args.whole else (("a token", at_length),):
        with_cache, without = min(times[True]), min(times[False])
        print(f"{what:9} at length {args.length}: {1e3 * with_cache:.2f} ms with the cache, "
              f"{1e3 * without:.2f} ms without, {without / with_cache:.1f} times")


if __name__ == "__main__":
    main()

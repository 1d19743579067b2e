#!/usr/bin/env python3
"""Times `lathe tokenize` beside tiktoken on the same text, in turns, in one run.

    python3 -m venv venv && venv/bin/pip install tiktoken==0.14.0 unicodedata2==16.0.0 xxhash
    venv/bin/python scripts/bench_tokenizer.py VOCAB_BPE TEXT [THREADS...]

TEXT is repeated to at least 64 MB. tiktoken encodes it in pieces of 1 MB, as Lathe does, in one thread,
and is given str, so that decoding UTF-8 is not in its time. Lathe's time is that of the whole process:
start, vocab.bpe, reading, encoding, writing shards. Printed are medians, each over ROUNDS turns, and
ratios to tiktoken.
"""
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import make_tokenizer_golden as golden

ROOT = pathlib.Path(__file__).resolve().parent.parent
LATHE = os.environ.get("LATHE_BINARY", str(ROOT / "build" / "lathe"))
LEAST_BYTES, PIECE, ROUNDS = 64_000_000, 1 << 20, 5


def time_tiktoken(tokenizer, pieces):
    start = time.perf_counter()
    tokens = sum(len(tokenizer.encode_ordinary(piece)) for piece in pieces)
    return time.perf_counter() - start, tokens


def time_lathe(vocab_bpe, path, threads):
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run([LATHE, "tokenize", "--tokenizer", vocab_bpe, "--threads", str(threads), "--out",
                        folder, "--val-fraction", "0", path], check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
        return seconds, sum((shard.stat().st_size - 1024) // 2 for shard in pathlib.Path(folder).glob("*.bin"))


def main(vocab_bpe, text_path, *threads):
    text = pathlib.Path(text_path).read_bytes().decode(errors="replace")
    text *= -(-LEAST_BYTES // len(text.encode()))
    pieces, begin = [], 0
    while begin < len(text):  # cut where no token ends elsewhere: before a blank between letters
        end = begin + PIECE
        while end < len(text) and not (text[end] == " " and text[end + 1:end + 2].isalpha()):
            end += 1
        pieces.append(text[begin:end])
        begin = end
    tokenizer = golden.gpt2(pathlib.Path(vocab_bpe))
    threads = [int(n) for n in threads] or [1, 2]
    seconds = {"tiktoken": [], **{n: [] for n in threads}}
    with tempfile.NamedTemporaryFile(suffix=".txt") as file:
        file.write(text.encode())
        file.flush()
        size = len(text.encode())
        for _ in range(ROUNDS):
            elapsed, tokens = time_tiktoken(tokenizer, pieces)
            seconds["tiktoken"].append(elapsed)
            for n in threads:
                elapsed, lathe_tokens = time_lathe(vocab_bpe, file.name, n)
                assert lathe_tokens == tokens + 1, (lathe_tokens, tokens)  # with the end of text
                seconds[n].append(elapsed)
    base = statistics.median(seconds["tiktoken"])
    print(f"{size:,} bytes, {tokens:,} tokens, median of {ROUNDS}")
    for name, times in seconds.items():
        median = statistics.median(times)
        title = name if name == "tiktoken" else f"lathe, threads {name}"
        print(f"{title:18} {size / median / 1e6:8.1f} MB/s {base / median:6.1f} x "
              f"(from {size / max(times) / 1e6:.1f} to {size / min(times) / 1e6:.1f} MB/s)")


if __name__ == "__main__":
    main(*sys.argv[1:])

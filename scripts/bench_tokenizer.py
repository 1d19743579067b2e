#!/usr/bin/env python3
"""Times `lathe tokenize` beside tiktoken on the same text, in turns, in one run.

    python3 -m venv venv && venv/bin/pip install tiktoken==0.14.0 unicodedata2==16.0.0 xxhash
    venv/bin/python scripts/bench_tokenizer.py VOCAB_BPE TEXT [THREADS...]

TEXT is repeated to at least 64 MB. tiktoken encodes it in pieces of 1 MB, as Lathe does, in one thread,
and is given str, so that decoding UTF-8 is not in its time. Lathe's time is that of the whole process:
start, vocab.bpe, reading, encoding, writing shards and syncing them. Printed are medians over ROUNDS
turns of the time that passed and of the processors' time, which a busy machine changes less, and ratios
to tiktoken.
"""
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import make_tokenizer_golden as golden

ROOT = pathlib.Path(__file__).resolve().parent.parent
LATHE = os.environ.get("LATHE_BINARY", str(ROOT / "build" / "lathe"))
LEAST_BYTES, PIECE, ROUNDS = 64_000_000, 1 << 20, 5


def processor_seconds():
    """Of this process and of those that it has waited for."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def timed(work):
    """(seconds, processor seconds), and what work() gives."""
    wall, processor = time.perf_counter(), processor_seconds()
    result = work()
    return (time.perf_counter() - wall, processor_seconds() - processor), result


def tiktoken_tokens(tokenizer, pieces):
    return sum(len(tokenizer.encode_ordinary(piece)) for piece in pieces)


def lathe_tokens(vocab_bpe, path, threads):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([LATHE, "tokenize", "--tokenizer", "gpt2", "--threads", str(threads), "--out",
                        folder, "--val-fraction", "0", path], check=True, stdout=subprocess.DEVNULL,
                       env={**os.environ, "LATHE_GPT2_VOCAB": vocab_bpe})
        return sum((shard.stat().st_size - 1024) // 2 for shard in pathlib.Path(folder).glob("*.bin"))


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
            elapsed, tokens = timed(lambda: tiktoken_tokens(tokenizer, pieces))
            seconds["tiktoken"].append(elapsed)
            for n in threads:
                elapsed, found = timed(lambda n=n: lathe_tokens(vocab_bpe, file.name, n))
                assert found == tokens + 1, (found, tokens)  # with the end of text
                seconds[n].append(elapsed)
    print(f"{size:,} bytes, {tokens:,} tokens, medians of {ROUNDS}: passed, processor time")
    for name, times in seconds.items():
        title = name if name == "tiktoken" else f"lathe, threads {name}"
        columns = []
        for kind in (0, 1):
            median = statistics.median(time[kind] for time in times)
            base = statistics.median(time[kind] for time in seconds["tiktoken"])
            columns.append(f"{size / median / 1e6:8.1f} MB/s {base / median:6.1f} x")
        print(f"{title:18}" + "".join(columns))


if __name__ == "__main__":
    main(*sys.argv[1:])

#!/usr/bin/env python3
"""Writes tests/golden/tokenizer.json: what tiktoken and a plain regular expression make of texts that
tests/tokenizer_test.cpp makes again.

GPT-2's vocab.bpe is not part of Lathe: its path is the argument, the folder of tiny Shakespeare's
tinyshakespeare.txt the second. Needs
    python3 -m venv venv && venv/bin/pip install tiktoken==0.14.0 unicodedata2==16.0.0 xxhash
    venv/bin/python scripts/make_tokenizer_golden.py SHARED/gpt2/vocab.bpe SHARED/data

A family is a list of texts, bytes. Of each the file has the XXH3-64 of its texts, the numbers of words
and of tokens, and the XXH3-64 of two lists of little-endian int32: the lengths of the words and the
tokens, with -1 after each text.
"""
import json
import pathlib
import re
import struct
import sys

import tiktoken
import unicodedata2
import xxhash

OUTPUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden" / "tokenizer.json"
UNICODE = "16.0.0"
MASK = (1 << 64) - 1


class Random:
    """SplitMix64 (Steele et al. 2014)."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
        return (z ^ z >> 31) % n


def characters():
    return [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]


# What the split pattern tells apart, and what looks like it.
PIECES = ["a", "B", "s", "the", " ", "  ", "\n", "\t", "'", "'s", "'ll", "'LL", "'re", "'t", "1", "23", ".",
          "!?", "-", "_", "\r\n", "\u00a0", "\u0085", "\u2003", "\u3000", "\u200b", "\ufeff", "\u180e", "\x1c",
          "\u00e9", "e\u0301", "\u0436\u0438", "\u4e2d\u6587", "\u00b2", "\u0664", "\u2167", "\u20ac",
          "\U0001f600", "\U0001d518", "\U00020000", "\U0001fbf5", "<|endoftext|>", " hello", " world"]


def random_strings(seed, count):
    random = Random(seed)
    for _ in range(count):
        text = ""
        for _ in range(random.below(12)):
            if random.below(4) == 0:
                code = random.below(0x110000)
                text += chr(code) if not 0xD800 <= code < 0xE000 else "x"
            else:
                text += PIECES[random.below(len(PIECES))]
        yield text.encode()


def random_bytes(seed, count):
    """Mostly no UTF-8: bytes of all kinds, and characters cut short."""
    random = Random(seed)
    whole = [piece.encode() for piece in PIECES]
    for _ in range(count):
        text = b""
        for _ in range(random.below(12)):
            piece = whole[random.below(len(whole))]
            kind = random.below(3)
            if kind == 0:
                piece = bytes([random.below(256)])
            elif kind == 1:
                piece = piece[:random.below(len(piece) + 1)]
            text += piece
        yield text


def long_runs():
    for run in ["a", " ", "\n", "0", "!", "'", "\u00e9", "ab", "\u4e2d", "\u3000", "Aa", " a", "=", "the"]:
        for length in [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 63, 64, 65, 66, 127, 1000, 20000]:
            yield (run * length).encode()
            yield (run * length + "x").encode()


def in_context(before, after):
    return lambda: ((before + c + after).encode() for c in characters())


def families(data):
    return {
        "characters": in_context("", ""),
        "characters_between_letters": in_context("a", "b"),
        "characters_after_space": in_context(" ", " x"),
        "characters_after_spaces": in_context("1  ", "2"),
        "characters_after_apostrophe": in_context("'", "'s"),
        "random_strings": lambda: random_strings(1, 50_000),
        "random_bytes": lambda: random_bytes(2, 50_000),
        "long_runs": long_runs,
        "tiny_shakespeare": lambda: [(data / "tinyshakespeare.txt").read_bytes()],
    }


def ascii_stand_in(c):
    """An ASCII character of the same class; those of ASCII stand for themselves."""
    if c < "\x80":
        return c
    category = unicodedata2.category(c)
    if category[0] == "Z" or c == "\x85":
        return "\v"
    return {"L": "x", "N": "0"}.get(category[0], "#")


STAND_INS = {}
PATTERN = re.compile(r"'(?:[sdmt]|ll|ve|re)| ?[A-Za-z]+| ?[0-9]+| ?[^\t-\r A-Za-z0-9]+|"
                     r"[\t-\r ]+(?![^\t-\r ])|[\t-\r ]+")


def split(text):
    """The words of bytes; a byte that is of no character is a character of class `other`."""
    string = text.decode(errors="surrogateescape")
    for c in set(string):
        if c not in STAND_INS:
            STAND_INS[c] = ascii_stand_in(c)
    same = "".join(map(STAND_INS.__getitem__, string))
    return [string[m.start():m.end()].encode(errors="surrogateescape") for m in PATTERN.finditer(same)]


def gpt2(vocab_bpe):
    """tiktoken's GPT-2 from the file alone."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    order = printable + [b for b in range(256) if b not in printable]
    symbols = {chr(b if b in printable else 256 + i - len(printable)): b for i, b in enumerate(order)}
    ranks = {bytes([b]): i for i, b in enumerate(order)}
    for line in vocab_bpe.read_text(encoding="utf-8").split("\n")[1:-1]:
        ranks[bytes(symbols[c] for c in line.replace(" ", ""))] = len(ranks)
    pattern = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
    return tiktoken.Encoding("gpt2", pat_str=pattern, mergeable_ranks=ranks,
                             special_tokens={"<|endoftext|>": 50256}, explicit_n_vocab=50257)


def encode(tokenizer, text, words):
    """tiktoken's own word for it where the text is UTF-8, else what it makes of each word."""
    try:
        return tokenizer.encode_ordinary(text.decode())
    except UnicodeDecodeError:
        return [id for word in words for id in tokenizer._core_bpe.encode_single_piece(word)]


class Digest:
    def __init__(self):
        self.count, self.xxh3 = 0, xxhash.xxh3_64()

    def add(self, numbers):
        self.count += len(numbers)
        self.xxh3.update(struct.pack(f"<{len(numbers) + 1}i", *numbers, -1))


def main(vocab_bpe, data):
    assert unicodedata2.unidata_version == UNICODE, unicodedata2.unidata_version
    tokenizer = gpt2(vocab_bpe)
    golden = {"tiktoken": tiktoken.__version__, "unicode": UNICODE, "families": {}}
    for name, texts in families(data).items():
        words_digest, tokens_digest, bytes_digest = Digest(), Digest(), xxhash.xxh3_64()
        for text in texts():
            bytes_digest.update(text)
            words = split(text)
            assert b"".join(words) == text
            words_digest.add([len(word) for word in words])
            tokens_digest.add(encode(tokenizer, text, words))
        golden["families"][name] = {
            "texts_xxh3": bytes_digest.hexdigest(),
            "words": words_digest.count, "words_xxh3": words_digest.xxh3.hexdigest(),
            "tokens": tokens_digest.count, "tokens_xxh3": tokens_digest.xxh3.hexdigest()}
        print(name, golden["families"][name], flush=True)
    OUTPUT.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:]))

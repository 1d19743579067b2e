#!/usr/bin/env python3
"""Compares Lathe's GPT-2 tokens with tiktoken's, and trained tokenizers with Hugging Face's, at lengths
that the tests have no time for.

    python3 -m venv venv && venv/bin/pip install tiktoken==0.14.0 unicodedata2==16.0.0 xxhash tokenizers \\
      transformers
    venv/bin/python scripts/check_tokenizer.py SHARED [COUNT]

SHARED holds gpt2/vocab.bpe and data/tinyshakespeare.txt. Compared are every character alone and beside
others, COUNT (1,000,000) random strings, as many random byte strings, and long runs, all through
`lathe tokenize` with threads; then a tokenizer trained on tiny Shakespeare: the merges with those that
Hugging Face's trainer finds, the files as tokenizers and transformers load them. The last line is
`check_tokenizer.py: passed` or not.
"""
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile

import make_tokenizer_golden as golden

ROOT = pathlib.Path(__file__).resolve().parent.parent
LATHE = os.environ.get("LATHE_BINARY", str(ROOT / "build" / "lathe"))
END_OF_TEXT = 50256


def run(*arguments):
    subprocess.run([LATHE, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def shard_tokens(folder):
    tokens = []
    for shard in sorted(folder.glob("*.bin")):
        data = shard.read_bytes()
        tokens += struct.unpack(f"<{(len(data) - 1024) // 2}H", data[1024:])
    return tokens


def lathe_tokens(texts, tokenizer, end_of_text):
    """The tokens of each text. Strings travel as JSON lines; bytes, which JSON cannot hold, as
    documents with a separator that is in none of them."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        options = ["--tokenizer", tokenizer, "--val-fraction", "0", "--out", folder / "out"]
        try:
            lines = "".join(json.dumps({"text": text.decode()}) + "\n" for text in texts)
            (folder / "texts.jsonl").write_text(lines)
            run("tokenize", *options, folder / "texts.jsonl")
        except UnicodeDecodeError:
            separator = b"[->separator<-]"
            assert not any(separator in text for text in texts)
            (folder / "texts.txt").write_bytes(separator.join(texts))
            run("tokenize", *options, "--document-separator", separator.decode(), folder / "texts.txt")
        documents = []
        for token in shard_tokens(folder / "out"):
            if token == end_of_text:
                documents.append([])
            else:
                documents[-1].append(token)
        return documents


def compare(name, texts, expected, tokenizer, end_of_text):
    """True where they are equal. An empty text is no document."""
    texts = [text for text in texts if text]
    got = lathe_tokens(texts, tokenizer, end_of_text)
    wanted = [expected(text) for text in texts]
    if got == wanted:
        print(f"{name}: {len(texts):,} texts, {sum(map(len, wanted)):,} tokens, equal", flush=True)
        return True
    print(f"{name}: {len(got):,} of {len(texts):,} texts came back")
    for text, a, b in zip(texts, got, wanted):
        if a != b:
            print(f"  first difference: {text[:80]!r}: {a[:20]}, must be {b[:20]}")
            break
    return False


def check_gpt2(shared, count):
    vocab_bpe = shared / "gpt2" / "vocab.bpe"
    tiktoken = golden.gpt2(vocab_bpe)
    families = golden.families(shared / "data")
    families["random_strings"] = lambda: golden.random_strings(11, count)
    families["random_bytes"] = lambda: golden.random_bytes(12, count)
    passed = True
    for name, texts in families.items():
        passed &= compare(name, list(texts()), lambda text: golden.encode(tiktoken, text, golden.split(text)),
                          vocab_bpe, END_OF_TEXT)
    return passed


def hugging_face_merges(text, vocab):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator([text], trainers.BpeTrainer(
        vocab_size=vocab, min_frequency=2, special_tokens=["<|endoftext|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]


def check_trained(shared, vocab):
    from tokenizers import ByteLevelBPETokenizer, Tokenizer
    from transformers import AutoTokenizer, GPT2TokenizerFast
    path = shared / "data" / "tinyshakespeare.txt"
    text = path.read_bytes().decode()
    lines = [line.encode() for line in text.split("\n\n")]
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary) / "tokenizer"
        run("train-tokenizer", "--vocab", vocab, "--out", folder, path)
        merges = (folder / "merges.txt").read_text().split("\n")[1:-1]
        passed = merges == hugging_face_merges(text, vocab)
        print(f"{vocab:,} tokens learned: {len(merges):,} merges, {'equal' if passed else 'DIFFERENT'}")
        loaders = {
            "tokenizers, tokenizer.json": Tokenizer.from_file(str(folder / "tokenizer.json")),
            "tokenizers, vocab.json": ByteLevelBPETokenizer(str(folder / "vocab.json"),
                                                            str(folder / "merges.txt")),
            "transformers, GPT2TokenizerFast": GPT2TokenizerFast.from_pretrained(folder),
            "transformers, AutoTokenizer": AutoTokenizer.from_pretrained(folder)}
        for name, loaded in loaders.items():
            def expected(line, loaded=loaded):
                found = loaded.encode(line.decode())
                return found if isinstance(found, list) else found.ids
            passed &= compare(name, lines, expected, folder, vocab - 1)
    passed &= loaders["transformers, AutoTokenizer"].eos_token_id == vocab - 1
    return passed


def main(shared, count=1_000_000):
    shared = pathlib.Path(shared)
    passed = check_trained(shared, 5000)
    passed &= check_gpt2(shared, int(count))
    print(f"check_tokenizer.py: {'passed' if passed else 'FAILED'}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

#!/usr/bin/env python3
"""Trains nanoGPT's CPU recipe with Lathe (fp32, bf16) and with PyTorch, one after another on this
machine, and prints validation losses over the whole split and wall times.

    build/pytorch/bin/python scripts/compare_pytorch.py TEXT [--threads N] [--steps N]

Needs build/lathe and PyTorch (scripts/install_pytorch.sh makes build/pytorch). How fast both are at equal work
is measured by scripts/bench_cpu.sh; this shows that the same number of steps learns as much.
"""
import argparse
import dataclasses
import json
import math
import pathlib
import subprocess
import tempfile
import time

import torch

from gpt2_sizes import NANOGPT_CPU
from pytorch_gpt2 import Gpt2, adamw

SIZES, SEQ_LEN, ROWS = dataclasses.replace(NANOGPT_CPU, vocab=256), NANOGPT_CPU.context, 12
LR, FINAL_LR, WARMUP, BETAS, WEIGHT_DECAY, CLIP = 1e-3, 1e-4, 100, (0.9, 0.99), 0.1, 1.0


def lr_at(step, steps):
    if step < WARMUP:
        return LR * (step + 1) / WARMUP
    progress = (step - WARMUP) / (steps - 1 - WARMUP)
    return FINAL_LR + 0.5 * (LR - FINAL_LR) * (1 + math.cos(math.pi * progress))


def run_pytorch(text, steps, threads):
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    data = torch.tensor(list(text), dtype=torch.long)
    train, val = data[:len(data) * 9 // 10], data[len(data) * 9 // 10:]
    model = Gpt2(SIZES)
    optimizer = adamw(model, lr=LR, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True)
    began = time.time()
    for step in range(steps):
        starts = torch.randint(len(train) - SEQ_LEN, (ROWS,))
        rows = torch.stack([train[s:s + SEQ_LEN + 1] for s in starts])
        for group in optimizer.param_groups:
            group["lr"] = lr_at(step, steps)
        loss = model(rows[:, :-1], rows[:, 1:])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
    seconds = time.time() - began
    rows = (len(val) - 1) // SEQ_LEN
    tokens = val[:rows * SEQ_LEN].view(rows, SEQ_LEN)
    targets = val[1:rows * SEQ_LEN + 1].view(rows, SEQ_LEN)
    with torch.no_grad():
        losses = [model(t, y).item() * len(t) for t, y in zip(tokens.split(64), targets.split(64))]
    return sum(losses) / rows, seconds


def run_lathe(path, steps, threads, precision):
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "run"
        began = time.time()
        subprocess.run(
            ["build/lathe", "train", "--train", path, "--out", out, "--precision", precision,
             f"--threads={threads}", f"--steps={steps}", f"--layers={SIZES.layers}", f"--heads={SIZES.heads}",
             f"--channels={SIZES.channels}", f"--context={SEQ_LEN}", f"--micro-batch={ROWS}",
             f"--lr={LR}", f"--final-lr-fraction={FINAL_LR / LR}", f"--warmup-steps={WARMUP}",
             f"--beta1={BETAS[0]}", f"--beta2={BETAS[1]}", f"--weight-decay={WEIGHT_DECAY}",
             f"--grad-clip={CLIP}", "--val-every=0", "--checkpoint-every=0", "--quiet"], check=True)
        seconds = time.time() - began  # with start, validation, checkpoint and sample
        return json.loads((out / "result.json").read_text())["val_loss"], seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", help="a text file; its last tenth is for validation")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, default=2000)
    args = parser.parse_args()
    text = pathlib.Path(args.text).read_bytes()
    print(f"{args.steps} steps of {ROWS} x {SEQ_LEN}, {args.threads} threads")
    runs = [(f"pytorch {torch.__version__} fp32", lambda: run_pytorch(text, args.steps, args.threads)),
            ("lathe fp32", lambda: run_lathe(args.text, args.steps, args.threads, "fp32")),
            ("lathe bf16", lambda: run_lathe(args.text, args.steps, args.threads, "bf16"))]
    pytorch_seconds = None
    for name, run in runs:
        loss, seconds = run()
        pytorch_seconds = pytorch_seconds or seconds
        print(f"{name:28} val loss {loss:.4f} | {seconds:7.1f} s | "
              f"{pytorch_seconds / seconds:.2f} x pytorch", flush=True)


if __name__ == "__main__":
    main()

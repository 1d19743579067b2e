#!/usr/bin/env python3
"""Trains nanoGPT's CPU recipe with Lathe (fp32, bf16) and with PyTorch, one after another on this
machine, and prints validation losses over the whole split and wall times.

    /usr/bin/python3 scripts/compare_pytorch.py TEXT [--threads N] [--steps N]

Needs build/lathe and PyTorch (Debian: apt install python3-torch libopenblas0-pthread; without the latter
its products run on the reference BLAS, a hundred times slower).
"""
import argparse
import json
import math
import pathlib
import subprocess
import tempfile
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

LAYERS, HEADS, CHANNELS, SEQ_LEN, ROWS, VOCAB = 4, 4, 128, 64, 12, 256
LR, FINAL_LR, WARMUP, BETAS, WEIGHT_DECAY, CLIP = 1e-3, 1e-4, 100, (0.9, 0.99), 0.1, 1.0


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(CHANNELS), nn.LayerNorm(CHANNELS)
        self.qkv, self.proj = nn.Linear(CHANNELS, 3 * CHANNELS), nn.Linear(CHANNELS, CHANNELS)
        self.fc, self.mlp = nn.Linear(CHANNELS, 4 * CHANNELS), nn.Linear(4 * CHANNELS, CHANNELS)
        self.register_buffer("future", torch.ones(SEQ_LEN, SEQ_LEN, dtype=torch.bool).triu(1))

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = (part.view(B, T, HEADS, C // HEADS).transpose(1, 2)
                   for part in self.qkv(self.ln1(x)).split(C, dim=2))
        scores = (q @ k.transpose(2, 3) / math.sqrt(C // HEADS)).masked_fill(self.future, -math.inf)
        x = x + self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(B, T, C))
        return x + self.mlp(F.gelu(self.fc(self.ln2(x)), approximate="tanh"))


class Gpt2(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCAB, CHANNELS), nn.Embedding(SEQ_LEN, CHANNELS)
        self.blocks = nn.Sequential(*[Block() for _ in range(LAYERS)])
        self.final_ln = nn.LayerNorm(CHANNELS)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                residual = name.endswith(("proj.weight", "mlp.weight"))
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * LAYERS) if residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, tokens, targets):
        x = self.tokens(tokens) + self.positions.weight
        logits = self.final_ln(self.blocks(x)) @ self.tokens.weight.T
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


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
    model = Gpt2()
    groups = [{"params": [p for p in model.parameters() if p.dim() == 2], "weight_decay": WEIGHT_DECAY},
              {"params": [p for p in model.parameters() if p.dim() == 1], "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=LR, betas=BETAS, foreach=True)
    began = time.time()
    for step in range(steps):
        starts = torch.randint(len(train) - SEQ_LEN, (ROWS,))
        rows = torch.stack([train[s:s + SEQ_LEN + 1] for s in starts])
        for group in adamw.param_groups:
            group["lr"] = lr_at(step, steps)
        loss = model(rows[:, :-1], rows[:, 1:])
        adamw.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        adamw.step()
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
             f"--threads={threads}", f"--steps={steps}", f"--layers={LAYERS}", f"--heads={HEADS}",
             f"--channels={CHANNELS}", f"--context={SEQ_LEN}", f"--micro-batch={ROWS}",
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

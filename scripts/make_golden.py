#!/usr/bin/env python3
"""Writes tests/golden/*.safetensors: GPT-2 and AdamW by PyTorch in float64, what Lathe must give.

Needs PyTorch 2 (scripts/install_pytorch.sh). From the repository's root:
    build/pytorch/bin/python scripts/make_golden.py

Initial parameters are numbers that bf16 holds exactly, so that fp32 and bf16 start from the same
model; they are larger than GPT-2's, so that no part of the network is close to linear or its
softmaxes close to uniform.
"""
import dataclasses
import pathlib

import torch

from gpt2_sizes import Sizes
from pytorch_gpt2 import Gpt2, adamw, write_safetensors

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden"
STEPS = 10
BETAS, EPS, WEIGHT_DECAY = (0.9, 0.95), 1e-8, 0.1

# grad_clip lies between the gradient norms of the ten steps: some are clipped and some are not.
CASES = {
    "odd": dict(layers=2, heads=3, channels=21, context=13, vocab=61, rows=6, seq_len=11,
                micro_batch=2, grad_clip=1.75, seed=1),
    "one_head": dict(layers=1, heads=1, channels=16, context=9, vocab=130, rows=5, seq_len=9,
                     micro_batch=1, grad_clip=1.87, seed=2),
    "deep": dict(layers=3, heads=4, channels=48, context=40, vocab=257, rows=3, seq_len=33,
                 micro_batch=1, grad_clip=3.5, seed=3),
}


def initial_parameters(case):
    """Linear weights are (out, in)."""
    C, L = case["channels"], case["layers"]
    random = torch.Generator().manual_seed(case["seed"])

    def normal(*shape, mean=0.0, stddev):
        values = torch.randn(*shape, generator=random, dtype=torch.float64) * stddev + mean
        return values.bfloat16().double()

    def linear(name, out, into):
        return {f"{name}.weight": normal(out, into, stddev=into**-0.5),
                f"{name}.bias": normal(out, stddev=0.1)}

    def layernorm(name):
        return {f"{name}.gain": normal(C, mean=1.0, stddev=0.2),
                f"{name}.bias": normal(C, stddev=0.1)}

    p = {"token_embedding.weight": normal(case["vocab"], C, stddev=0.25),
         "position_embedding.weight": normal(case["context"], C, stddev=0.25)}
    for l in range(L):
        p |= layernorm(f"blocks.{l}.ln1") | linear(f"blocks.{l}.attention.qkv", 3 * C, C)
        p |= linear(f"blocks.{l}.attention.proj", C, C) | layernorm(f"blocks.{l}.ln2")
        p |= linear(f"blocks.{l}.mlp.fc", 4 * C, C) | linear(f"blocks.{l}.mlp.proj", C, 4 * C)
    return p | layernorm("final_ln")


def model_of(case, parameters):
    names = [field.name for field in dataclasses.fields(Sizes)]
    model = Gpt2(Sizes(**{name: case[name] for name in names}), stream=torch.float64, initialize=False).double()
    model.load_state_dict(parameters)
    return model


def make(name, case):
    model = model_of(case, initial_parameters(case))
    p = dict(model.named_parameters())
    V, rows, T = case["vocab"], case["rows"], case["seq_len"]
    random = torch.Generator().manual_seed(1000 + case["seed"])
    text = torch.randint(V, (STEPS, rows, T + 1), generator=random)
    tokens, targets = text[:, :, :-1], text[:, :, 1:]
    learning_rates = torch.tensor([2e-3 * (k + 1) / 3 if k < 3 else 2e-3 * (1 - (k - 3) / 8)
                                   for k in range(STEPS)], dtype=torch.float32)
    out = {"tokens": tokens.int(), "targets": targets.int(), "learning_rates": learning_rates}
    out |= {f"initial.{n}": t.detach().bfloat16() for n, t in p.items()}
    with torch.no_grad():
        out["logits"] = model.logits(tokens[0]).float()

    optimizer = adamw(model, lr=0.0, betas=BETAS, weight_decay=WEIGHT_DECAY, eps=EPS)
    losses, norms = [], []
    for step in range(STEPS):
        optimizer.zero_grad()
        total = 0.0
        for begin in range(0, rows, case["micro_batch"]):
            part = slice(begin, begin + case["micro_batch"])
            loss = model(tokens[step, part], targets[step, part]) * case["micro_batch"] / rows
            loss.backward()
            total += loss.item()
        losses.append(total)
        if step == 0:
            out |= {f"gradient.{n}": t.grad.float() for n, t in p.items()}
        norms.append(torch.nn.utils.clip_grad_norm_(p.values(), case["grad_clip"]).item())
        for group in optimizer.param_groups:
            group["lr"] = float(learning_rates[step])
        optimizer.step()
    assert min(norms) < case["grad_clip"] < max(norms), norms
    out["losses"], out["norms"] = torch.tensor(losses), torch.tensor(norms)
    out |= {f"final.{n}": t.detach().float() for n, t in p.items()}

    metadata = {n: str(case[n]) for n in ("layers", "heads", "channels", "context", "vocab",
                                          "rows", "seq_len", "grad_clip")}
    metadata |= {"beta1": str(BETAS[0]), "beta2": str(BETAS[1]), "eps": str(EPS),
                 "weight_decay": str(WEIGHT_DECAY)}
    path = FOLDER / f"{name}.safetensors"
    write_safetensors(path, out, metadata)
    print(f"{path.name}: {path.stat().st_size} bytes, losses {losses[0]:.4f} to {losses[-1]:.4f}, "
          f"norms {' '.join(f'{n:.2f}' for n in norms)}")


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for case_name, values in CASES.items():
        make(case_name, values)

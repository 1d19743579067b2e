#!/usr/bin/env python3
"""What `lathe bench` is compared with: training steps of GPT-2 in PyTorch, compiled, with fused attention
and a fused AdamW. Prints one JSON object for each setting, as soon as it is measured.

    bench_pytorch.py --name gpt2 --layers 12 --heads 12 --channels 768 --seq-len 1024 --micro-batches 64
    bench_pytorch.py --ceilings      the rates of a large matrix product and of a copy

The work of a step is Lathe's: forward, backward, norm of the gradient, clipping, AdamW; random tokens. The
residual stream is bf16. Parameters are fp32 under autocast, as Lathe's master weights are, or bf16 alone,
which is faster and trains worse: updates smaller than 2^-9 of a weight are lost.
"""
import argparse
import json
import statistics
import sys
import time

import torch
import torch.nn as nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from gpt2_sizes import Sizes
from pytorch_gpt2 import Gpt2

PADDED_VOCAB, VOCAB = 50304, 50257
ATTENTION = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}
WARMUP_STEPS, STEPS = 4, 10
# Below this many tokens in a step launching kernels may take longer than running them.
FEW_TOKENS = 8192


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def make_step(args, micro_batch, parameters_type, graphs):
    """A function that makes one training step."""
    sizes = Sizes(args.layers, args.heads, args.channels, context=args.seq_len, vocab=PADDED_VOCAB)
    model = Gpt2(sizes, stream=torch.bfloat16).to(args.device)
    if parameters_type == "bf16":
        model.bfloat16()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
    if args.compile == "block":
        for block in model.blocks:
            block.compile()
        model.head_loss = torch.compile(model.head_loss)
        run = model
    else:
        run = torch.compile(model, mode="reduce-overhead" if graphs else None)
    text = torch.randint(VOCAB, (micro_batch, args.seq_len + 1), device=args.device)
    tokens, targets = text[:, :-1].contiguous(), text[:, 1:].contiguous()

    def step():
        torch.compiler.cudagraph_mark_step_begin()
        with torch.autocast(args.device, torch.bfloat16, enabled=parameters_type == "fp32"):
            loss = run(tokens, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    return step


def measure(args, micro_batch, attention, parameters_type, graphs):
    torch._dynamo.reset()
    with sdpa_kernel(ATTENTION[attention]):
        step = make_step(args, micro_batch, parameters_type, graphs)
        began = time.perf_counter()
        for _ in range(WARMUP_STEPS):
            loss = step()
        synchronize(args.device)
        compiled = time.perf_counter()
        for _ in range(STEPS):  # nothing is awaited between steps
            loss = step()
        synchronize(args.device)
        seconds = (time.perf_counter() - compiled) / STEPS
    return {"name": args.name, "attention": attention, "parameters_type": parameters_type,
            "graphs": graphs, "micro_batch": micro_batch, "seq_len": args.seq_len, "step_ms": 1e3 * seconds,
            "tokens_per_second": micro_batch * args.seq_len / seconds,
            "compiled": args.compile, "warmup_seconds": compiled - began, "loss": loss.item(), "pytorch": torch.__version__}


def measure_largest(args, setting):
    """With the first of the micro-batches that fits; None when this GPU or shape has no such kernel."""
    for micro_batch in args.micro_batches:
        try:
            result = measure(args, micro_batch, **setting)
            print(json.dumps(result), flush=True)
            return result
        except torch.OutOfMemoryError:
            print(f"{args.name}: micro-batch {micro_batch} does not fit", file=sys.stderr)
        except RuntimeError as error:
            print(f"{args.name}: {setting}: {error}", file=sys.stderr)
            return None
        torch.cuda.empty_cache()
    return None


def bench(args):
    """Each attention first, then what else may be faster with the better one."""
    results = []

    def add(setting):
        result = measure_largest(args, setting)
        if result:
            results.append(result)

    for attention in args.attention:
        add({"attention": attention, "parameters_type": "fp32", "graphs": False})
    if not results:
        raise SystemExit(f"{args.name}: nothing ran")
    best = max(results, key=lambda result: result["tokens_per_second"])
    if args.device == "cuda" and best["micro_batch"] * args.seq_len <= FEW_TOKENS and args.compile == "model":
        add({"attention": best["attention"], "parameters_type": "fp32", "graphs": True})
    best = max(results, key=lambda result: result["tokens_per_second"])
    add({"attention": best["attention"], "parameters_type": "bf16", "graphs": best["graphs"]})


def median_seconds(work, runs=20):
    times = []
    for _ in range(runs + 3):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work()
        end.record()
        end.synchronize()
        times.append(1e-3 * begin.elapsed_time(end))
    return statistics.median(times[3:])


def ceilings():
    size, copied_bytes = 8192, 4 << 30
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    gemm = median_seconds(lambda: a @ b)
    source = torch.randint(256, (copied_bytes,), device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)
    copy = median_seconds(lambda: target.copy_(source))
    print(json.dumps({"bf16_gemm_tflops": 1e-12 * 2 * size**3 / gemm,
                      "copy_gbytes_per_second": 1e-9 * 2 * copied_bytes / copy,  # read and written
                      "gpu": torch.cuda.get_device_name(), "pytorch": torch.__version__}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ceilings", action="store_true")
    parser.add_argument("--name", default="gpt2")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--channels", type=int, default=768)
    parser.add_argument("--seq-len", type=int, default=1024)
    parser.add_argument("--micro-batches", default="64", help="tried in this order until one fits: 16,8,4",
                        type=lambda text: [int(size) for size in text.split(",")])
    parser.add_argument("--attention", nargs="+", choices=ATTENTION, default=list(ATTENTION))
    parser.add_argument("--compile", choices=("model", "block"), default="model",
                        help="the model as one, or each block alone: far sooner compiled when it is deep")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    args = parser.parse_args()
    torch.manual_seed(1)
    torch.set_float32_matmul_precision("high")
    if args.ceilings:
        ceilings()
    else:
        bench(args)


if __name__ == "__main__":
    main()

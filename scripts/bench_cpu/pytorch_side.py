#!/usr/bin/env python3
"""What is measured, done by PyTorch: one process with one setting, given as JSON.

    pytorch_side.py write WORK SIZES      model.safetensors, and hf/ if there is transformers
    pytorch_side.py train WORK JSON       prints a line for each part of the run, as Lathe does
    pytorch_side.py sample WORK JSON      prints seconds and tokens as JSON
    pytorch_side.py versions              of what is there, as JSON
"""
import contextlib
import json
import pathlib
import sys
import time

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import pytorch_gpt2  # noqa: E402
from gpt2_sizes import Sizes  # noqa: E402


def read_batches(path, case):
    """Of each step: rows of tokens, and of their targets."""
    data = torch.frombuffer(bytearray(path.read_bytes()[1024:]), dtype=torch.uint16).long()
    count = case["rows"] * case["seq_len"]
    for begin in range(0, case["steps"] * count, count):
        yield (data[begin:begin + count].view(case["rows"], -1).contiguous(),
               data[begin + 1:begin + count + 1].view(case["rows"], -1).contiguous())


def write(work, sizes):
    torch.manual_seed(1)
    model = pytorch_gpt2.Gpt2(Sizes(**sizes))
    pytorch_gpt2.write_model(work / "model.safetensors", model, tokenizer="bytes")


def train(work, case):
    torch.set_num_threads(case["threads"])
    bf16 = case["precision"] == "bf16"
    model = pytorch_gpt2.Gpt2(Sizes(**case["sizes"]), recompute=case["recompute"], initialize=False,
                              stream=torch.bfloat16 if bf16 else torch.float32)
    pytorch_gpt2.read_model(work / "model.safetensors", model)
    settings = case["optimizer"]
    optimizer = pytorch_gpt2.adamw(model, lr=settings["lr"], betas=(settings["beta1"], settings["beta2"]),
                                   eps=settings["eps"], weight_decay=settings["weight_decay"], fused=True)
    run = torch.compile(model) if case["compile"] else model
    for step, (tokens, targets) in enumerate(read_batches(work / "tokens.bin", case), start=1):
        with torch.autocast("cpu", torch.bfloat16) if bf16 else contextlib.nullcontext():
            loss = run(tokens, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings["grad_clip"])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % case["steps_of_part"] == 0:
            print(f"step {step}/{case['steps']} | loss {loss.item():.6f}", flush=True)


def sample(work, case):
    import transformers

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(case["threads"])
    model_type = torch.bfloat16 if case["precision"] == "bf16" else torch.float32
    model = transformers.GPT2LMHeadModel.from_pretrained(work / "hf", dtype=model_type).eval()
    prompt = torch.full((case["samples"], case["prompt_tokens"]), ord("a"))
    settings = {"max_new_tokens": case["tokens"], "min_new_tokens": case["tokens"], "do_sample": False,
                "attention_mask": torch.ones_like(prompt), "pad_token_id": 0}
    if case["compile"]:
        settings["cache_implementation"] = "static"
        model.forward = torch.compile(model.forward)
    with torch.inference_mode():
        seconds = []
        for _ in range(3):  # the first warms up and compiles
            began = time.perf_counter()
            out = model.generate(prompt, **settings)
            seconds.append(time.perf_counter() - began)
    print(json.dumps({"seconds": min(seconds[1:]), "tokens": out[:, case["prompt_tokens"]:].tolist()}))


def versions():
    found = {"pytorch": torch.__version__}
    with contextlib.suppress(ImportError):
        import transformers
        found["transformers"] = transformers.__version__
    print(json.dumps(found))


def main():
    what, *rest = sys.argv[1:]
    if what == "versions":
        return versions()
    work, argument = rest
    {"write": write, "train": train, "sample": sample}[what](pathlib.Path(work), json.loads(argument))


if __name__ == "__main__":
    main()

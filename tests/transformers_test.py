#!/usr/bin/env python3
"""Models of Lathe in transformers, and models of transformers in Lathe: what transformers writes,
Lathe reads, trains on and writes back; what Lathe writes, AutoModelForCausalLM loads as it stands.

Runs itself again under a Python that has torch and transformers: LATHE_PYTHON, build/python (made by
scripts/install_transformers.sh) or the one it was started with. Where none has them, says so and exits
with 77.
"""
import json
import math
import os
import pathlib
import struct
import subprocess
import tempfile

import python_packages

python_packages.require("torch, transformers, safetensors.torch", folder="python",
                        script="scripts/install_transformers.sh", variable="LATHE_PYTHON",
                        HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", PYTHONWARNINGS="ignore")

import unittest

import safetensors.torch
import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel
from transformers.modeling_utils import no_init_weights

LATHE = os.environ["LATHE_BINARY"]
SIZES = dict(n_layer=3, n_head=4, n_embd=48, n_positions=40, vocab_size=257, bos_token_id=256,
             eos_token_id=256)


def lathe(*arguments):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LATHE_")}
    done = subprocess.run([LATHE, *map(str, arguments)], capture_output=True, text=True,
                          env=environment)
    if done.returncode != 0:
        raise AssertionError(f"lathe {' '.join(map(str, arguments))}: {done.stderr}")
    return done.stdout


def random_model(seed, **changes):
    """Weights larger than GPT-2's, so that no part of the network is close to linear."""
    torch.manual_seed(seed)
    dropout = dict(attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0)
    model = GPT2LMHeadModel(GPT2Config(**(SIZES | dropout | changes))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def random_tokens(seed, *shape):
    return torch.randint(SIZES["vocab_size"], shape, generator=torch.Generator().manual_seed(seed))


def load(folder):
    """As lm-evaluation-harness does, and nothing may be missing or left over."""
    model, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True,
                                                         torch_dtype="auto")
    for kind, found in report.items():
        assert not found, (kind, found)
    return model.eval()


class TransformersTest(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.temporary.name)

    def tearDown(self):
        self.temporary.cleanup()

    def write(self, model, name, **options):
        model.save_pretrained(self.folder / name, safe_serialization=True, **options)
        return self.folder / name

    def test_files_come_back_byte_for_byte(self):
        for dtype in (torch.float32, torch.bfloat16):
            path = self.write(random_model(1).to(dtype), f"hf-{dtype}")
            original = (path / "model.safetensors").read_bytes()
            for middle in ("a.safetensors", "a.bin"):
                lathe("convert", path, "--out", self.folder / middle, "--overwrite")
                lathe("convert", self.folder / middle, "--out", self.folder / "back", "--overwrite")
                self.assertEqual((self.folder / "back/model.safetensors").read_bytes(), original)

    def test_half_precision_and_several_files(self):
        model = random_model(2).half()
        self.write(model, "half")
        self.write(model.float(), "many", max_shard_size="100KB")
        self.assertTrue((self.folder / "many/model.safetensors.index.json").exists())
        for name in ("half", "many"):
            lathe("convert", self.folder / name, "--out", self.folder / f"{name}-out")
            loaded = load(self.folder / f"{name}-out")
            for parameter, (key, found) in zip(model.parameters(), loaded.named_parameters()):
                self.assertEqual(found.dtype, torch.float32)
                self.assertTrue(torch.equal(parameter, found), key)

    def test_a_model_trained_by_lathe_has_the_same_loss(self):
        text = self.folder / "text.txt"
        text.write_bytes(bytes(random_tokens(3, 4000).clamp(max=255).tolist()))
        run = self.folder / "run"
        lathe("train", "--train", text, "--layers", 2, "--heads", 3, "--channels", 33, "--context", 29,
              "--steps", 30, "--lr", "1e-2", "--device", "cpu", "--out", run, "--quiet")
        lathe("convert", run, "--out", self.folder / "hf")
        model = load(self.folder / "hf")
        found = json.loads(lathe("eval", "--checkpoint", run, "--val", text, "--device", "cpu",
                                 "--json"))
        tokens = torch.tensor(list(text.read_bytes()))
        count = (len(tokens) - 1) // 29
        rows = torch.stack([tokens[i * 29:i * 29 + 30] for i in range(count)])
        with torch.no_grad():
            logits = model(rows[:, :-1]).logits
            loss = F.cross_entropy(logits.double().flatten(0, 1), rows[:, 1:].flatten()).item()
        self.assertAlmostEqual(found["val_loss"], loss, delta=1e-5)
        self.assertLess(loss, 5.6)

    def test_ten_steps_go_as_pytorchs(self):
        rows, T, steps, lr, decay, clip = 4, 24, 10, 2e-3, 0.1, 1.0
        model = random_model(4)
        path = self.write(model, "start")
        tokens = random_tokens(5, steps * rows * T + 1)
        shard = self.folder / "shard.bin"
        shard.write_bytes(struct.pack("<256i", 20240520, 1, len(tokens), *[0] * 253) +
                          struct.pack(f"<{len(tokens)}H", *tokens.tolist()))
        decayed = [p for p in model.parameters() if p.dim() > 1]
        others = [p for p in model.parameters() if p.dim() == 1]
        adamw = torch.optim.AdamW([{"params": decayed, "weight_decay": decay},
                                   {"params": others, "weight_decay": 0.0}],
                                  lr=lr, betas=(0.9, 0.95), eps=1e-8)
        expected, norms = [], []
        for step in range(steps):
            begins = [(step * rows + row) * T for row in range(rows)]
            batch = torch.stack([tokens[begin:begin + T + 1] for begin in begins])
            adamw.zero_grad()
            loss = F.cross_entropy(model(batch[:, :-1]).logits.flatten(0, 1), batch[:, 1:].flatten())
            loss.backward()
            norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), clip).item())
            adamw.step()
            expected.append(loss.item())
        self.assertGreater(max(norms), clip)
        for start in ("start", "start.bin"):
            if start != "start":
                lathe("convert", path, "--out", self.folder / start)
            lathe("train", "--train", shard, "--init-from", self.folder / start, "--no-shuffle",
                  "--micro-batch", 2, "--batch-tokens", rows * T, "--seq-len", T, "--steps", steps,
                  "--lr", lr, "--lr-schedule", "constant", "--weight-decay", decay, "--grad-clip", clip,
                  "--device", "cpu", "--precision", "fp32", "--out", self.folder / "run", "--overwrite",
                  "--quiet")
            lines = map(json.loads, (self.folder / "run/metrics.jsonl").read_text().splitlines())
            found = [line["train/loss"] for line in lines if "train/loss" in line]
            self.assertEqual(len(found), steps)
            for step, (a, b) in enumerate(zip(found, expected)):
                self.assertTrue(math.isfinite(a) and abs(a - b) <= 1e-5, (start, step, a, b))
        # And back: the weights after ten steps.
        lathe("convert", self.folder / "run", "--out", self.folder / "end")
        with torch.no_grad():
            probe = random_tokens(6, 3, 40)
            difference = (load(self.folder / "end")(probe).logits - model(probe).logits).abs().max()
        self.assertLessEqual(difference.item(), 1e-3)

    def test_logits_are_transformers(self):
        """convert_test loads the model and compares, at every length."""
        model = random_model(7)
        path = self.write(model, "hf")
        tokens = random_tokens(8, SIZES["n_positions"])
        with torch.no_grad():
            logits = model(tokens[None]).logits[0]
        safetensors.torch.save_file({"tokens": tokens.int(), "logits": logits.contiguous()},
                                    self.folder / "expected.safetensors")
        lathe("convert", path, "--out", self.folder / "a.bin")
        for name in ("hf", "a.bin"):
            environment = dict(os.environ, LATHE_TRANSFORMERS_MODEL=str(self.folder / name),
                               LATHE_TRANSFORMERS_LOGITS=str(self.folder / "expected.safetensors"))
            done = subprocess.run([pathlib.Path(LATHE).parent / "tests/convert_test",
                                   "--gtest_filter=Transformers.*"], env=environment,
                                  capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stdout)
            self.assertIn("[  PASSED  ] 1 test.", done.stdout)
            self.assertNotIn("SKIPPED", done.stdout)

    def test_all_four_sizes_by_shape(self):
        """transformers' own names and shapes, as files without values: Lathe takes every one."""
        for name, layers, heads, channels in (("gpt2", 12, 12, 768), ("gpt2-medium", 24, 16, 1024),
                                              ("gpt2-large", 36, 20, 1280), ("gpt2-xl", 48, 25, 1600)):
            config = GPT2Config(n_layer=layers, n_head=heads, n_embd=channels)
            with no_init_weights():
                model = GPT2LMHeadModel(config)
            folder = self.folder / name
            config.save_pretrained(folder)
            header, end = {"__metadata__": {"format": "pt"}}, 0
            for key, tensor in model.state_dict().items():
                if key == "lm_head.weight":  # tied: save_pretrained leaves it out
                    continue
                begin, end = end, end + 4 * tensor.numel()
                header[key] = {"dtype": "F32", "shape": list(tensor.shape),
                               "data_offsets": [begin, end]}
            text = json.dumps(header).encode()
            with open(folder / "model.safetensors", "wb") as file:
                file.write(struct.pack("<Q", len(text)) + text)
                file.truncate(8 + len(text) + end)
            plan = json.loads(lathe("plan", "--init-from", folder, "--json"))
            self.assertEqual(plan["parameters"], sum(p.numel() for p in model.transformer.parameters()))
            self.assertEqual(plan["vocab"], 50257)
            named = json.loads(lathe("plan", "--model", name, "--init-from", folder, "--json"))
            self.assertEqual(named, plan)

    def test_tokenizer_files_are_copied(self):
        path = self.write(random_model(9), "hf")
        write_tokenizer(path)
        lathe("convert", path, "--out", self.folder / "out")
        text = "Once there was a cat."
        tokenizer = AutoTokenizer.from_pretrained(self.folder / "out")
        ids = tokenizer(text)["input_ids"]
        self.assertEqual(ids, AutoTokenizer.from_pretrained(path)(text)["input_ids"])
        self.assertEqual(tokenizer.decode(ids), text)
        self.assertEqual(AutoConfig.from_pretrained(self.folder / "out").eos_token_id, 256)
        output = load(self.folder / "out").generate(torch.tensor([ids]), max_new_tokens=4,
                                                    do_sample=False, pad_token_id=256)
        self.assertEqual(output.shape[0], 1)


def write_tokenizer(folder):
    """A byte-level BPE without merges: 256 bytes and the end of a text."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = printable + [b for b in range(256) if b not in printable]
    characters = {}
    for rank, byte in enumerate(symbols):
        characters[chr(byte if rank < len(printable) else 256 + rank - len(printable))] = rank
    (folder / "vocab.json").write_text(json.dumps(characters | {"<|endoftext|>": 256}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))


if __name__ == "__main__":
    torch.set_num_threads(2)
    unittest.main()

"""GPT-2 in PyTorch under Lathe's names, so that a model file of either is read by the other: what the
scripts compare Lathe with. Needs PyTorch 2.

The model is GPT-2 (Radford et al. 2019): learned positions, LayerNorm before each sublayer, tanh GELU,
head tied to the token embedding. Linear weights are (out, in).
"""
import dataclasses
import json
import math
import struct

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

SAFETENSORS_NAMES = {torch.int32: "I32", torch.float32: "F32", torch.bfloat16: "BF16"}


class LayerNorm(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.gain, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        return F.layer_norm(x, self.gain.shape, self.gain, self.bias, eps=1e-5)


class Attention(nn.Module):
    def __init__(self, heads, channels):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = (part.view(B, T, self.heads, C // self.heads).transpose(1, 2)
                   for part in self.qkv(x).split(C, dim=2))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(mixed.transpose(1, 2).reshape(B, T, C))


class Mlp(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.fc, self.proj = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)

    def forward(self, x):
        return self.proj(F.gelu(self.fc(x), approximate="tanh"))


class Block(nn.Module):
    def __init__(self, heads, channels):
        super().__init__()
        self.ln1, self.attention = LayerNorm(channels), Attention(heads, channels)
        self.ln2, self.mlp = LayerNorm(channels), Mlp(channels)

    def forward(self, x):
        x = x + self.attention(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class Gpt2(nn.Module):
    """`stream` is the type of what flows between the blocks, `recompute` whether they are computed again
    in the backward pass."""

    def __init__(self, sizes, stream=torch.float32, recompute=False, initialize=True):
        super().__init__()
        self.sizes, self.stream, self.recompute = sizes, stream, recompute
        self.token_embedding = nn.Embedding(sizes.vocab, sizes.channels)
        self.position_embedding = nn.Embedding(sizes.context, sizes.channels)
        self.blocks = nn.ModuleList([Block(sizes.heads, sizes.channels) for _ in range(sizes.layers)])
        self.final_ln = LayerNorm(sizes.channels)
        if initialize:
            self.initialize()

    def initialize(self):
        """As GPT-2: what adds to the residual stream is smaller the more blocks there are."""
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                adds = name.endswith("proj.weight")
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * self.sizes.layers) if adds else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def features(self, tokens):
        positions = self.position_embedding.weight[:tokens.shape[1]]
        x = (self.token_embedding(tokens) + positions).to(self.stream)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.recompute else block(x)
        return self.final_ln(x)

    def logits(self, tokens):
        return F.linear(self.features(tokens), self.token_embedding.weight)

    def head_loss(self, features, targets):
        logits = F.linear(features, self.token_embedding.weight).flatten(0, 1)
        widened = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return F.cross_entropy(widened, targets.flatten())

    def forward(self, tokens, targets):
        return self.head_loss(self.features(tokens), targets)


def adamw(model, *, lr, betas, weight_decay, eps=1e-8, fused=False):
    """Matrices and embeddings decay, as in Lathe."""
    parameters = list(model.parameters())
    groups = [{"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
              {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=fused)


def write_safetensors(path, tensors, metadata):
    """tensors: name -> tensor of int32, float32 or bfloat16."""
    header, end = {"__metadata__": metadata}, 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = dict(dtype=SAFETENSORS_NAMES[tensor.dtype], shape=list(tensor.shape),
                            data_offsets=[begin, end])
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            bits = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
            file.write(bits.contiguous().numpy().tobytes())


def write_model(path, model, tokenizer="none"):
    """As Lathe's model file, in fp32."""
    metadata = {"format": "lathe", "precision": "fp32", "tokenizer": tokenizer}
    metadata |= {name: str(size) for name, size in dataclasses.asdict(model.sizes).items()}
    write_safetensors(path, {n: p.detach().float() for n, p in model.named_parameters()}, metadata)


def read_model(path, model):
    """Parameters of a model file in fp32, the head tied; the file is mapped."""
    with open(path, "rb") as file:
        size, = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
    header.pop("__metadata__")
    data = torch.from_file(str(path), shared=False, size=8 + size + max(
        entry["data_offsets"][1] for entry in header.values()), dtype=torch.uint8)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            begin, end = (8 + size + offset for offset in header[name]["data_offsets"])
            parameter.copy_(data[begin:end].view(torch.float32).view(parameter.shape))

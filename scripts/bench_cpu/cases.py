"""What is measured: sizes, batches, and how long."""
import dataclasses
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from gpt2_sizes import GPT2, GPT2_MEDIUM, NANOGPT_CPU, TINY, Sizes  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Training:
    """`parts` times `steps_of_part` steps; each part is timed, and the first of them warms up."""
    title: str
    sizes: Sizes
    rows: int
    seq_len: int
    parts: int
    steps_of_part: int = 1
    recompute: bool = False  # of blocks, by both
    compiled: bool = True    # PyTorch with and without torch.compile; else without

    def steps(self):
        return self.parts * self.steps_of_part


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Greedy continuations of a prompt, keys and values kept."""
    title: str
    sizes: Sizes
    samples: int
    prompt_tokens: int
    tokens: int
    compiled: bool = True


@dataclasses.dataclass(frozen=True)
class StartUp:
    """From the command to the end of the first step, parameters from a file."""
    title: str
    sizes: Sizes
    rows: int
    seq_len: int


CASES = {
    "a": [Training("gpt2, B=4 T=64", GPT2, rows=4, seq_len=64, parts=9)],
    "b": [Training("gpt2, B=4 T=1024", GPT2, rows=4, seq_len=1024, parts=3)],
    "c": [Training("nanoGPT's CPU recipe, B=12 T=64", NANOGPT_CPU, rows=12, seq_len=64, parts=10, steps_of_part=30)],
    "d": [Training("tiny, B=4 T=128", TINY, rows=4, seq_len=128, parts=10, steps_of_part=30)],
    "e": [Training("gpt2-medium, B=1 T=1024, recomputed", GPT2_MEDIUM, rows=1, seq_len=1024, parts=3, recompute=True)],
    "f": [Sampling("gpt2, 1 sample", GPT2, samples=1, prompt_tokens=64, tokens=64),
          Sampling("gpt2, 8 samples", GPT2, samples=8, prompt_tokens=64, tokens=64)],
    "g": [StartUp("tiny", TINY, rows=4, seq_len=128), StartUp("gpt2", GPT2, rows=1, seq_len=64)],
}

# The same in a few seconds, one model for all: shows that everything runs, and no speed.
SMALL = Sizes(layers=2, heads=2, channels=32, context=32, vocab=257)
SMOKE_CASES = {
    "a": [Training("small, B=2 T=16", SMALL, rows=2, seq_len=16, parts=3, steps_of_part=2, compiled=False)],
    "f": [Sampling("small, 2 samples", SMALL, samples=2, prompt_tokens=5, tokens=6, compiled=False)],
    "g": [StartUp("small", SMALL, rows=1, seq_len=16)],
}

# Of both sides.
OPTIMIZER = {"lr": 3e-4, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.1, "grad_clip": 1.0}
PRECISIONS = ("fp32", "bf16")
# How far apart losses of both may be after the same steps, as a fraction: rounding is of this size.
LOSS_TOLERANCE = {"fp32": 1e-3, "bf16": 1e-2}

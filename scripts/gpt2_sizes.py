"""Sizes of the models that scripts measure."""
import dataclasses


@dataclasses.dataclass(frozen=True)
class Sizes:
    layers: int
    heads: int
    channels: int
    context: int
    vocab: int


GPT2 = Sizes(layers=12, heads=12, channels=768, context=1024, vocab=50257)
GPT2_MEDIUM = Sizes(layers=24, heads=16, channels=1024, context=1024, vocab=50257)
# nanoGPT's README, "only have a macbook": characters of tiny Shakespeare.
NANOGPT_CPU = Sizes(layers=4, heads=4, channels=128, context=64, vocab=65)
TINY = Sizes(layers=4, heads=4, channels=128, context=128, vocab=256)  # Lathe's preset, of bytes

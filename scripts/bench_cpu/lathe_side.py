"""What is measured, done by Lathe."""
import struct

import cases
import machine
import processes


def write_tokens(path, tokens):
    """A token shard (docs/formats.md)."""
    header = struct.pack("<3i", 20240520, 1, len(tokens)).ljust(1024, b"\0")
    path.write_bytes(header + struct.pack(f"<{len(tokens)}H", *tokens))


class Lathe:
    """`work` has model.safetensors and tokens.bin, and takes the runs."""

    def __init__(self, binary, work, threads, clock):
        self.binary, self.work, self.threads, self.clock = binary, work, threads, clock

    def train(self, case, precision):
        return self._train(case, precision, case.steps(), case.steps_of_part, case.recompute)

    def start(self, case):
        """One step; the result's time is that from the command to its end."""
        machine.bring_back_memory()
        return self._train(case, "fp32", steps=1, steps_of_part=1, recompute=False)

    def _train(self, case, precision, steps, steps_of_part, recompute):
        settings = cases.OPTIMIZER
        options = {"train": self.work / "tokens.bin", "init-from": self.work / "model.safetensors",
                   "vocab": case.sizes.vocab, "out": self.work / "run", "precision": precision,
                   "threads": self.threads, "micro-batch": case.rows, "seq-len": case.seq_len, "steps": steps,
                   "log-every": steps_of_part, "val-every": 0, "checkpoint-every": 0, "device": "cpu",
                   "recompute": "block" if recompute else "none",
                   **{name.replace("_", "-"): value for name, value in settings.items()}}
        command = [self.binary, "train", "--overwrite", "--no-shuffle"]
        return processes.Watched(command + [f"--{name}={value}" for name, value in options.items()], clock=self.clock,
                                 last_step=steps)

    def sample(self, case, precision):
        options = {"checkpoint": self.work / "model.safetensors", "prompt": "a" * case.prompt_tokens,
                   "samples": case.samples, "max-tokens": case.tokens, "temperature": 0, "precision": precision,
                   "threads": self.threads, "device": "cpu"}
        command = [self.binary, "sample", "--json", "--no-stop-at-end"]
        return processes.Watched(command + [f"--{name}={value}" for name, value in options.items()])

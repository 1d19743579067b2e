#!/usr/bin/env python3
"""The report of scripts/gpu_check.sh: FOLDER/report.json, and FOLDER/report.md made from it.

    gpu_report.py FOLDER begin STAGE                              forgets the stage's earlier results
    gpu_report.py FOLDER check STAGE NAME STATUS SECONDS DETAIL   STATUS: passed, failed, not run
    gpu_report.py FOLDER value STAGE NAME FILE                    keeps the JSON in FILE as it is
    gpu_report.py FOLDER end STAGE...                             says what failed; exit code 1 if any did

Every call leaves both files whole, so that a run that is killed keeps what it had.
"""
import json
import os
import pathlib
import sys

STAGES = ("build", "test", "train", "bench", "peer")
H100_DENSE_TFLOPS = 989  # bf16, NVIDIA's H100 SXM data sheet, without sparsity


def flops_per_token(parameters, layers, channels, seq_len):
    """Of a training step, as llm.c counts: 6 for each parameter, and attention's two products, forward
    and backward, over the half of the positions that a token may look at."""
    return 6 * parameters + 6 * layers * channels * seq_len


def step_tflops(run, tokens_per_second, parameters):
    return 1e-12 * tokens_per_second * flops_per_token(parameters, run["layers"], run["channels"],
                                                       run["seq_len"])


def percent(part, whole):
    return f"{100 * part / whole:.1f} %" if whole else ""


def number(value, digits=0):
    return f"{value:.{digits}f}" if isinstance(value, (int, float)) else ""


def table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n"
                   for line in lines) + "\n"


def checks_section(name, stage):
    seconds = sum(check["seconds"] for check in stage["checks"])
    rows = [(check["name"], check["status"], check["seconds"], check["detail"])
            for check in stage["checks"]]
    return f"## {name}, {seconds} s\n\n" + table(("check", "result", "s", "detail"), rows)


def kernels_section(kernels):
    rows = [(f"`{k['kernel']}`", k["sm"], k["registers"], k["stack"], k["shared"])
            for k in kernels]
    header = ("kernel", "for", "registers", "stack bytes", "static shared bytes")
    return "### Kernels as compiled\n\n" + table(header, rows)


def best_peer(peers, name):
    """The fastest PyTorch run of a configuration: (tokens per second, its settings)."""
    runs = [run for run in peers if run["name"] == name and "tokens_per_second" in run]
    best = max(runs, key=lambda run: run["tokens_per_second"], default=None)
    if best is None:
        return None, ""
    settings = f"{best['attention']}, {best['parameters_type']} parameters"
    return best["tokens_per_second"], settings + (", graphs" if best.get("graphs") else "")


def speed_section(runs, ceilings, peers):
    gemm = ceilings.get("bf16_gemm_tflops")
    rows = []
    for run in runs:
        bench = run["bench"]
        tokens = bench["tokens_per_second"]
        tflops = step_tflops(run, tokens, bench["parameters"])
        peer, settings = best_peer(peers, run["name"])
        rows.append((run["name"], f"{bench['step_ms']:.2f}", f"{tokens:.0f}", f"{tflops:.1f}",
                     percent(tflops, gemm), percent(tflops, H100_DENSE_TFLOPS),
                     f"{peer:.0f} ({settings})" if peer else "", f"{tokens / peer:.3f}" if peer else ""))
    header = ("run", "step ms", "tokens/s", "TFLOP/s", "of the measured product",
              f"MFU of {H100_DENSE_TFLOPS} TFLOP/s", "PyTorch tokens/s", "Lathe / PyTorch")
    return "### Speed\n\n" + table(header, rows)


def operations_section(run):
    rows = [(op.get("name"), op.get("calls"), number(op.get("ms"), 3), number(op.get("gflops_per_second")),
             number(op.get("gbytes_per_second"))) for op in run["bench"].get("operations", [])]
    header = ("operation", "calls", "ms", "GFLOP/s", "GB/s")
    return f"### Operations of {run['name']}\n\n" + table(header, rows)


def markdown(report):
    stages = report["stages"]
    text = "# GPU check\n\n"
    values = {}
    for name in STAGES:
        if name in stages:
            text += checks_section(name, stages[name])
            values |= stages[name]["values"]
    if "machine" in values:
        text += "## Machine\n\n" + table(("", ""), values["machine"].items())
    runs = [value for key, value in values.items() if key.startswith("bench ")]
    ceilings = values.get("ceilings", {})
    if ceilings:
        text += "### Ceilings, by PyTorch\n\n" + table(("", ""), ceilings.items())
    if runs:
        text += speed_section(runs, ceilings, values.get("peers", []))
        text += "".join(operations_section(run) for run in runs)
    if "kernels" in values:
        text += kernels_section(values["kernels"])
    return text


class Report:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "report.json"
        self.content = json.loads(path.read_text("utf-8")) if path.exists() else {"stages": {}}

    def stage(self, name):
        return self.content["stages"].setdefault(name, {"checks": [], "values": {}})

    def begin(self, stage):
        self.content["stages"].pop(stage, None)
        self.stage(stage)

    def check(self, stage, name, status, seconds, detail):
        self.stage(stage)["checks"].append(
            {"name": name, "status": status, "seconds": int(seconds), "detail": detail})

    def value(self, stage, name, value):
        self.stage(stage)["values"][name] = value

    def failed(self, stages):
        return [f"{stage}: {check['name']}" for stage in stages
                for check in self.stage(stage)["checks"] if check["status"] == "failed"]

    def write(self):
        self.write_file("report.json", json.dumps(self.content, indent=1) + "\n")
        self.write_file("report.md", markdown(self.content))

    def write_file(self, name, text):
        part = self.folder / f".{name}"
        part.write_text(text, encoding="utf-8", errors="replace")  # output may be cut inside a letter
        os.replace(part, self.folder / name)


def main(folder, command, *args):
    report = Report(folder)
    if command == "begin":
        report.begin(*args)
    elif command == "check":
        report.check(*args)
    elif command == "value":
        stage, name, path = args
        report.value(stage, name, json.loads(pathlib.Path(path).read_text()))
    elif command == "end":
        failed = report.failed(args)
        print("gpu_check: " + ("failed: " + ", ".join(failed) if failed else "passed"))
        return 1 if failed else 0
    else:
        raise SystemExit(__doc__)
    report.write()
    return 0


if __name__ == "__main__":
    if len(sys.argv) < 4:
        raise SystemExit(__doc__)
    sys.exit(main(*sys.argv[1:]))

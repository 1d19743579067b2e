#!/usr/bin/env python3
"""Registers, stack and shared memory of every CUDA kernel in a build folder, read out of its objects.

    scripts/kernel_resources.py BUILD [--markdown | --json]

Fails when a bf16 attention kernel at head size 64 has a stack: registers would spill to it. The cubins' layout
is not documented, but has been the same for years; ptxas -v prints the same numbers.
"""
import argparse
import json
import pathlib
import re
import struct
import subprocess
import sys

FATBIN_MAGIC = 0xBA55ED50
CUBIN = 2  # kind of a fatbin's entry
REGISTERS, FRAME_SIZE = 0x2F, 0x11  # attributes of .nv.info: a symbol's index and a value
WITHOUT_STACK = re.compile(r"mma_attention_\w+<64>")


def fatbin_entries(data):
    """(kind, sm, payload) of every entry of every fatbin in an object file."""
    at = 0
    while (at := data.find(struct.pack("<I", FATBIN_MAGIC), at)) >= 0:
        header, size = struct.unpack_from("<HQ", data, at + 6)
        at, end = at + header, at + header + size
        while at < end:
            kind, _, header, size = struct.unpack_from("<HHIQ", data, at)
            (sm,) = struct.unpack_from("<I", data, at + 28)
            yield kind, sm, data[at + header:at + header + size]
            at += header + size


def sections(cubin):
    (offset,) = struct.unpack_from("<Q", cubin, 40)
    count, names = struct.unpack_from("<HH", cubin, 60)
    headers = [struct.unpack_from("<IIQQQQII", cubin, offset + 64 * i) for i in range(count)]
    text = cubin[headers[names][4]:]
    for header in headers:
        name = text[header[0]:text.index(b"\0", header[0])].decode()
        nobits = header[1] == 8
        yield name, header[5], b"" if nobits else cubin[header[4]:header[4] + header[5]]


def kernels(cubin):
    """{kernel: {"registers", "stack", "shared"}}; shared is what is declared with a fixed size."""
    found, symbols, strings, info = {}, b"", b"", b""
    shared = {}
    for name, size, data in sections(cubin):
        if name == ".symtab":
            symbols = data
        elif name == ".strtab":
            strings = data
        elif name == ".nv.info":
            info = data
        elif name.startswith(".nv.shared."):
            shared[name.removeprefix(".nv.shared.")] = size
    at = 0
    while at < len(info):
        form, attribute, size = struct.unpack_from("<BBH", info, at)
        if form == 4 and attribute in (REGISTERS, FRAME_SIZE):
            symbol, value = struct.unpack_from("<II", info, at + 4)
            (start,) = struct.unpack_from("<I", symbols, 24 * symbol)
            kernel = strings[start:strings.index(b"\0", start)].decode()
            entry = found.setdefault(kernel, {"shared": shared.get(kernel, 0)})
            entry["registers" if attribute == REGISTERS else "stack"] = value
        at += 4 + (size if form == 4 else 0)
    return {name: kernel for name, kernel in found.items() if "registers" in kernel}  # not: functions


def readable(names):
    said = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True)
    return [re.sub(r"\(anonymous namespace\)::|lathe::|cuda::|^void ", "", name).split("(")[0]
            for name in said.stdout.splitlines()]


def kernels_of(build):
    rows = []
    for path in sorted(build.glob("CMakeFiles/lathe_cuda.dir/kernels/cuda/*.cu.o")):
        for kind, sm, payload in fatbin_entries(path.read_bytes()):
            if kind == CUBIN:
                found = kernels(payload)
                rows += [{"kernel": name, "sm": sm, **values}
                         for name, values in zip(readable(found), found.values())]
    return sorted(rows, key=lambda row: (row["kernel"], row["sm"]))


def show(rows, markdown):
    line = "| {} | {} | {} | {} | {} |" if markdown else "{:<60} {:>5} {:>9} {:>6} {:>7}"
    print(line.format("kernel", "sm", "registers", "stack", "shared"))
    if markdown:
        print("|---|---|---|---|---|")
    for row in rows:
        print(line.format(*(row[key] for key in ("kernel", "sm", "registers", "stack", "shared"))))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = kernels_of(arguments.build)
    if not rows:
        sys.exit(f"{arguments.build}: no CUDA objects there")
    if arguments.json:
        print(json.dumps(rows))
    else:
        show(rows, arguments.markdown)
    spilled = [row for row in rows if row["stack"] > 0 and WITHOUT_STACK.search(row["kernel"])]
    for row in spilled:
        print(f"{row['kernel']} for sm_{row['sm']}: a stack of {row['stack']} bytes, must be 0", file=sys.stderr)
    sys.exit(1 if spilled else 0)


if __name__ == "__main__":
    main()

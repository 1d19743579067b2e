#!/usr/bin/env python3
"""Writes src/tokenizer/unicode_ranges.cpp: the characters that GPT-2's split pattern tells apart.

Letters are the general categories L*, numbers N*, white space the property White_Space, which is
Z* with six controls. The version of Unicode is that of the regex-syntax crate in the tiktoken that
Lathe is compared with (scripts/check_tokenizer.py compares every character):
    python3 -m venv venv && venv/bin/pip install unicodedata2==16.0.0
    venv/bin/python scripts/make_unicode_table.py
"""
import pathlib

import unicodedata2

VERSION = "16.0.0"
OUTPUT = pathlib.Path(__file__).resolve().parent.parent / "src" / "tokenizer" / "unicode_ranges.cpp"
WHITE_CONTROLS = {0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x85}
COLUMNS = 100


def kind(code):
    if code in WHITE_CONTROLS:
        return "space"
    return {"L": "letter", "N": "number", "Z": "space"}.get(unicodedata2.category(chr(code))[0])


def ranges():
    """[first, last, kind] of each run of characters of a kind."""
    runs = []
    for code in range(0x110000):
        now = kind(code)
        if now is None:
            continue
        if runs and runs[-1][1] == code - 1 and runs[-1][2] == now:
            runs[-1][1] = code
        else:
            runs.append([code, code, now])
    return runs


def main():
    assert unicodedata2.unidata_version == VERSION, unicodedata2.unidata_version
    lines, line = [], ""
    for first, last, name in ranges():
        entry = f"{{0x{first:X}, 0x{last:X}, {name}}},"
        if len(line) + len(entry) + 5 > COLUMNS:
            lines.append("    " + line)
            line = ""
        line += (" " if line else "") + entry
    lines.append("    " + line)
    OUTPUT.write_text(
        "// Written by scripts/make_unicode_table.py; not to be changed by hand.\n"
        '#include "unicode.h"\n\n'
        "namespace lathe {\nnamespace {\n\nusing enum CharacterClass;\n\n"
        "// clang-format off\n"
        "constexpr ClassRange kRanges[] = {\n" + "\n".join(lines) + "\n};\n"
        "// clang-format on\n\n}  // namespace\n\n"
        f'std::string_view unicode_version() {{\n  return "{VERSION}";\n}}\n\n'
        "std::span<const ClassRange> class_ranges() {\n  return kRanges;\n}\n\n"
        "}  // namespace lathe\n")


if __name__ == "__main__":
    main()

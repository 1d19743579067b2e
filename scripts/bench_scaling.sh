#!/usr/bin/env bash
# How Lathe's training step grows with threads, with tokens in a sequence and with layers: tables in
# Markdown. --help says what there is; needs build/lathe.
exec python3 "$(dirname "$0")/bench_cpu/scaling.py" "$@"

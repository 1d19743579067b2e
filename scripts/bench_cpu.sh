#!/usr/bin/env bash
# Lathe and PyTorch in turns, on the CPU of this machine, at equal work: the same parameters, tokens,
# optimizer and number of threads, until the same loss. Prints a table; --help says what there is.
#
#     scripts/bench_cpu.sh [--cases a,c] [--precisions fp32,bf16] [--rounds N] [--threads N] [--json FILE] [--smoke]
#
# Needs build/lathe, and a Python with PyTorch 2 and transformers: LATHE_PYTORCH names one, build/pytorch
# is taken or made (scripts/install_pytorch.sh). With --smoke nothing is installed: without PyTorch it says so
# and exits with 77.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${LATHE_PYTORCH:-build/pytorch/bin/python}
has_pytorch() { [[ -x $python ]] && "$python" -c 'import torch; torch.compile' 2>/dev/null; }
if ! has_pytorch; then
  if [[ " $* " == *' --smoke '* ]]; then
    echo "scripts/bench_cpu.sh did not run: no PyTorch in $python; scripts/install_pytorch.sh makes build/pytorch," \
      "LATHE_PYTORCH names another Python"
    exit 77
  fi
  [[ -z ${LATHE_PYTORCH:-} ]] || { echo "scripts/bench_cpu.sh: LATHE_PYTORCH=$python: has no PyTorch 2" >&2; exit 2; }
  scripts/install_pytorch.sh
fi
exec "$python" scripts/bench_cpu/run.py "$@"

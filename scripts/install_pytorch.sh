#!/usr/bin/env bash
# Makes build/pytorch (or another folder given): a Python with the newest PyTorch and transformers of
# PyPI, or of the index that PIP_INDEX_URL names, for scripts/bench_cpu.sh. Does nothing when it is there.
# PyPI's PyTorch brings CUDA libraries that a CPU has no use for, some gigabytes.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-build/pytorch}

has() { "$python/bin/python" -c "import $1" 2>/dev/null; }
[[ -x $python/bin/python ]] && has torch && has transformers && exit 0
python3 -m venv --clear "$python"
install() { timeout 1800 "$python/bin/pip" install --quiet --disable-pip-version-check "$@"; }
install torch numpy
install transformers || echo 'install_pytorch.sh: no transformers: sampling will not be compared' >&2
has torch

#!/usr/bin/env bash
# Makes build/python (or another folder given): a Python with Debian's PyTorch 1.13 and a
# transformers that works with it, for tests/transformers_test.py. Does nothing when it is there.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/packages.sh
python=${1:-build/python}

works() {
  [[ -x $python/bin/python ]] &&
    "$python/bin/python" -c 'import torch, transformers, safetensors.torch' 2>/dev/null
}
works && exit 0
scripts/install_packages.sh "${transformers_packages[@]}"
/usr/bin/python3 -m venv --clear --system-site-packages "$python"
timeout 120 "$python/bin/pip" install --quiet --disable-pip-version-check \
  'transformers==4.40.2' 'numpy<2' safetensors
works

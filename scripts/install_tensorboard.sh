#!/usr/bin/env bash
# Makes build/tensorboard (or another folder given): a Python with TensorBoard, for
# tests/tensorboard_test.py. Does nothing when it is there.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-build/tensorboard}

works() {
  [[ -x $python/bin/python ]] && "$python/bin/python" -c 'import tensorboard' 2>/dev/null
}
works && exit 0
python3 -m venv --clear "$python"
timeout 120 "$python/bin/pip" install --quiet --disable-pip-version-check 'tensorboard==2.21.0'
works

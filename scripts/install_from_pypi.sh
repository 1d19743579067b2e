#!/usr/bin/env bash
# Makes build/NAME (or another folder given): a Python with a package of PyPI. Does nothing when it is
# there.
#
#   scripts/install_from_pypi.sh tensorboard   # for tests/tensorboard_test.py
#   scripts/install_from_pypi.sh optuna        # for scripts/sweep/optuna_sweep.py
set -euo pipefail
cd "$(dirname "$0")/.."
name=${1:?the name of a package is missing}
python=${2:-build/$name}
case $name in
  tensorboard) version=2.21.0 ;;
  optuna) version=5.0.0 ;;
  *)
    echo "install_from_pypi.sh: $name: must be tensorboard or optuna" >&2
    exit 2
    ;;
esac

works() {
  [[ -x $python/bin/python ]] && "$python/bin/python" -c "import $name" 2>/dev/null
}
works && exit 0
python3 -m venv --clear "$python"
timeout 120 "$python/bin/pip" install --quiet --disable-pip-version-check "$name==$version"
works

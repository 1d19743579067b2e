#!/usr/bin/env bash
# Proof that the tests of the CUDA kernels can fail: plants every fault of tests/faults.toml. The last
# line is "caught N of M".
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/packages.sh

command -v nvcc >/dev/null || { echo "scripts/mutation_test.sh: needs nvcc on PATH" >&2; exit 1; }
scripts/install_packages.sh "${build_packages[@]}" "${test_packages[@]}" python3
cmake --preset release -DLATHE_BUILD_TESTS=ON >/dev/null
targets=$(grep -o "'cuda_[a-z_]*_test'" tests/faults.toml | tr -d "'" | sort -u)
# shellcheck disable=SC2086
cmake --build build --target $targets
python3 scripts/mutation_test.py "$@"

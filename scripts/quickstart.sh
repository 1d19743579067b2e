#!/usr/bin/env bash
# From a fresh clone on Debian 12 to a GPT-2 that has learned to tell small stories.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/packages.sh

scripts/install_packages.sh "${build_packages[@]}"
# Tests stay as they are in a build folder that has them, and out of a new one.
[[ -f build/build.ninja ]] || cmake --preset release -DLATHE_BUILD_TESTS=OFF -DLATHE_UNITY=ON >/dev/null
cmake --build build --target lathe

build/lathe train --out runs/quickstart --overwrite
build/lathe plot runs/quickstart --svg runs/quickstart/loss.svg | tail -1
echo "Now try: build/lathe sample --checkpoint runs/quickstart"

#!/usr/bin/env bash
# clang-tidy over the sources of the build folder given. What passed once is not looked at again before
# it, a header or the rules change.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
stamps=$build/lint
mkdir -p "$stamps"

# From PyPI: it takes less than half the time of Debian's, as it leaves system headers alone.
version=23.1.4
tool=$build/clang-tidy-$version/bin/clang-tidy
if [[ ! -x $tool ]]; then
  python3 -m venv "$build/clang-tidy-$version"
  "$build/clang-tidy-$version/bin/pip" install --quiet --disable-pip-version-check "clang-tidy==$version"
fi

# Compile commands that clang understands: without g++'s precompiled headers, and with each folder of
# src/ as one file, which takes a quarter of the time.
database=$build/lint-database
cmake -S . -B "$database" -G Ninja -DCMAKE_BUILD_TYPE=Release -DLATHE_PRECOMPILE=OFF \
  -DLATHE_BUILD_TESTS=OFF -DLATHE_UNITY=ON >/dev/null
sed -i 's/ -fno-thread-jumps//' "$database/compile_commands.json"

# clang-tidy sees these where they stand in the file that it is given, and not in one that it includes.
for file in src/*/*.cpp; do
  for name in $(sed -nE 's/^using ([a-z_]+::)+([A-Za-z_]+);$/\2/p' "$file"); do
    [[ $(grep -cw "$name" "$file") -gt 1 ]] || { echo "$file: using ...::$name: unused" >&2; exit 1; }
  done
done

common=$( (cat .clang-tidy CMakeLists.txt; find include src kernels -name '*.h' | sort | xargs cat) |
  sha256sum | cut -c1-16)
# Those that are compiled: kernels/cuda is not without nvcc.
sed -nE 's/^  "file": "(.*\.(cpp|cxx))",?$/\1/p' "$database/compile_commands.json" | sort -u |
  while read -r file; do
    own=$( (cat "$file"; sed -nE 's/^#include "(.*\.cpp)"$/\1/p' "$file" | xargs -r cat) | sha256sum | cut -c1-16)
    name=${file#"$PWD"/}
    stamp=$stamps/${name//[.\/]/_}.$common.$own
    [[ -e $stamp ]] || echo "$file $stamp"
  done |
  # g++'s own flags are not clang's, and omp.h is g++'s; std::stable_sort uses what is deprecated. What
  # shadows what within a file g++ says.
  xargs -r -P "$(nproc)" -L 1 bash -c '
    said=$("$1" -p "$0" --quiet --checks=-bugprone-suspicious-include --extra-arg=-Wno-unknown-warning-option \
      --extra-arg=-Wno-unused-command-line-argument --extra-arg=-Wno-deprecated-declarations \
      --extra-arg=-Wno-shadow --extra-arg=-idirafter"$2" "$3" 2>&1) &&
      rm -f "${4%%.*}".* && touch "$4" || { echo "$said"; exit 1; }' \
    "$database" "$tool" "$(g++ -print-file-name=include)"

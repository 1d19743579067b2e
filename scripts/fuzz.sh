#!/usr/bin/env bash
# Fuzzes every reader of files for SECONDS in all (300 if not given), as many at once as there are
# processors: scripts/fuzz.sh [SECONDS]. Builds the targets of tests/fuzz with clang's libFuzzer and
# sanitizers in build-fuzz/; what it finds of interest stays in build-fuzz/corpus for the next time.
# The last line is "passed N of M"; an input that brought a reader down is named before, and kept.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/packages.sh

seconds=${1:-300}
if [[ ! $seconds =~ ^[1-9][0-9]*$ ]]; then
  echo "fuzz.sh: $seconds: must be a number of seconds from 1 on" >&2
  exit 2
fi
scripts/install_packages.sh "${build_packages[@]}" "${fuzz_packages[@]}"
cmake --preset fuzz >/dev/null
cmake --build build-fuzz

targets=(tests/fuzz/*_fuzz.cpp)
jobs=$(nproc)
share=$(((seconds * jobs + ${#targets[@]} - 1) / ${#targets[@]}))
mkdir -p build-fuzz/found
rm -f build-fuzz/found/*.passed

# Each input becomes a file: in memory, where there is a place for that.
files=$(mktemp -d -p "$([[ -d /dev/shm ]] && echo /dev/shm || echo "${TMPDIR:-/tmp}")")
trap 'rm -rf "$files"' EXIT

fuzz() {
  local target=$1 share=$2
  local name=${target%_fuzz} log=build-fuzz/$1.log
  mkdir -p "build-fuzz/corpus/$name"
  if TMPDIR=$files "build-fuzz/tests/fuzz/$target" -max_total_time="$share" -timeout=10 \
    -rss_limit_mb=2048 -malloc_limit_mb=256 -print_final_stats=1 \
    -artifact_prefix="build-fuzz/found/$name-" \
    "build-fuzz/corpus/$name" "tests/fuzz/corpus/$name" >"$log" 2>&1; then
    touch "build-fuzz/found/$name.passed"
    echo "$name: passed, $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") executions"
  else
    echo "$name: FAILED; log $log; input $(ls build-fuzz/found/"$name"-* 2>/dev/null || echo none)"
  fi
}
export -f fuzz
export files
printf '%s\n' "${targets[@]}" | sed 's:.*/::; s:\.cpp$::' |
  xargs -P "$jobs" -I '{}' bash -c 'fuzz "$1" "$2"' fuzz '{}' "$share"

passed=$(find build-fuzz/found -name '*.passed' | wc -l)
echo "passed $passed of ${#targets[@]}"
[[ $passed -eq ${#targets[@]} ]]

#!/usr/bin/env bash
# Every soak in full, one after another, and for each the line of the table in docs/reliability.md:
# all.sh [FILE] writes them there too. Needs a build with tests; LATHE_BUILD names its folder.
# Last line: passed N of M soaks; one that cannot run here is none of them.
set -euo pipefail
cd "$(dirname "$0")"
lines=$(mktemp)
log=$(mktemp)
trap 'rm -f "$lines" "$log"' EXIT
# What runs in the background is ended with this script.
trap 'kill "${soak:-$$}" 2>/dev/null || true; exit 143' TERM INT HUP

passed=0
all=0
for name in shim_calls kill_calls random_kills io_errors full_disk power_loss bit_flips signals exact_resume rank_kills \
  rank_hosts; do
  began=$SECONDS
  echo "--- $name"
  code=0
  "./$name.sh" >"$log" 2>&1 &
  soak=$!
  wait "$soak" || code=$?
  soak=
  cat "$log"
  if [[ $code -eq 77 ]]; then
    said='not run: not permitted on this machine'
  else
    said=$(tail -n 1 "$log")
    all=$((all + 1))
    [[ $code -ne 0 ]] || passed=$((passed + 1))
    [[ $code -eq 0 ]] || said="FAILED: $said"
  fi
  echo "| \`scripts/soak/$name.sh\` | $said | $((SECONDS - began)) s |" >>"$lines"
done
echo "--- $(date --utc +%Y-%m-%d), commit $(git rev-parse --short HEAD), $(nproc) processors"
cat "$lines"
[[ $# -eq 0 ]] || cp "$lines" "$1"
echo "passed $passed of $all soaks"
[[ $passed -eq $all ]]

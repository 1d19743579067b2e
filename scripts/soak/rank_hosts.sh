#!/usr/bin/env bash
# Ranks on two hosts (scripts/ranks/two_hosts.sh), joined by mpirun as over ssh. Their run has the bits of one on
# a single host; other options on the second host, and a cable that is cut, end it with the name of that host.
# Last line: passed N of M. LATHE_BUILD names the build's folder.
set -euo pipefail
here=$(realpath "$(dirname "$0")")
source "$here/../ranks/two_hosts.sh"
lathe=${LATHE_BUILD:-$here/../../build}/lathe
lathe=$(realpath "$lathe")
cd "$hosts_folder"

# RANKS_BY_HOST OPTIONS...: two ranks of a small run.
train() {
  local hosts=$1
  shift
  mpirun_both "$hosts" "$lathe" train --device cpu --layers 1 --heads 2 --channels 16 --context 16 --micro-batch 1 \
    --batch-tokens 64 --val-every 0 --val-tokens 64 --threads 1 --quiet "$@"
}

passed=0
all=0
# WHAT COMMAND...
check() {
  local what=$1
  shift
  all=$((all + 1))
  if "$@"; then passed=$((passed + 1)); else echo "FAILED: $what" >&2; fi
}

# FILE: is the same of both runs.
is_same() { cmp "one/checkpoints/step-00000050/$1" "two/checkpoints/step-00000050/$1"; }
train $one_host --steps 50 --out one || true
train $both_hosts --steps 50 --out two || true
check 'weights of one host and of two' is_same model.safetensors
check 'optimizer of one host and of two' is_same optimizer.safetensors

says() { grep -F "$1" err >/dev/null || { cat err; return 1; }; }
ENVIRONMENT_OF_B=LATHE_LR=0.5 train $both_hosts --steps 50 --out other 2>err || true
check 'another LATHE_LR on host-b' says 'lathe: --lr: rank 0 on host-a has 0.003, rank 1 on host-b has 0.5'

# Until the first rank has ended; mpirun could not end the second one without it.
cut_cable() {
  until [[ -e cut/checkpoints/step-00000020 ]]; do sleep 0.05; done
  ip link set cable down
  while grep -q '"running"' cut/result.json; do sleep 0.05; done
  ip link set cable up
}
cut_cable &
train $both_hosts --steps 1000000 --checkpoint-every 20 --rank-timeout 2s --out cut 2>err || true
check 'a cable that is cut' says 'rank 1 on host-b: nothing heard for 2 s (--rank-timeout)'
check 'the result of the first rank' grep '"exit_code": 8' cut/result.json
echo "passed $passed of $all"
[[ $passed -eq $all ]]

#!/usr/bin/env bash
# Ranks on two hosts: network namespaces with a cable between them, an address and a name each, joined by
# mpirun as over ssh. Their run has the bits of one on a single host; other options on the second host, and
# a cable that is cut, end it with the name of that host. Exits with 77 where nobody may make namespaces,
# or without mpirun. Last line: passed N of M. LATHE_BUILD names the build's folder.
set -euo pipefail
if [[ ${1:-} != --in-host-a ]]; then
  if ! command -v mpirun >/dev/null; then
    echo 'rank_hosts.sh: skipped: no mpirun here (openmpi-bin)' >&2
    exit 77
  elif ! unshare --net --uts ip link set lo up 2>/dev/null; then
    echo 'rank_hosts.sh: skipped: network namespaces need root (CAP_SYS_ADMIN) and ip (iproute2)' >&2
    exit 77
  fi
  # The namespaces go with the last of their processes, and all of these with the first.
  exec unshare --net --uts --pid --fork --kill-child --mount-proc "$0" --in-host-a
fi
lathe=${LATHE_BUILD:-$(realpath "$(dirname "$0")/../../build")}/lathe
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

unshare --net --uts sleep infinity &
export HOST_B=$!
on_b() { nsenter --target "$HOST_B" --net --uts -- "$@"; }
until [[ $(readlink "/proc/$HOST_B/ns/net") != $(readlink /proc/self/ns/net) ]]; do sleep 0.01; done
hostname host-a
on_b hostname host-b
ip link add cable type veth peer name cable netns "$HOST_B"
ip address add 10.77.0.1/24 dev cable
on_b ip address add 10.77.0.2/24 dev cable
for host in '' on_b; do
  $host ip link set lo up
  $host ip link set cable up
done

# What mpirun starts on another host with, in place of ssh: HOST COMMAND...
cat >enter <<'END'
#!/bin/sh
shift
export LATHE_LR="$LR_OF_B"
exec nsenter --target "$HOST_B" --net --uts -- sh -c "$*"
END
chmod +x enter

# RANKS_BY_HOST OPTIONS...: two ranks of a small run.
train() {
  local hosts=$1
  shift
  timeout 100 mpirun --allow-run-as-root --host "$hosts" --bind-to none -n 2 --mca plm_rsh_agent "$folder/enter" \
    --mca oob_tcp_if_include cable --mca btl_tcp_if_include cable --mca btl_vader_single_copy_mechanism none \
    "$lathe" train --device cpu --layers 1 --heads 2 --channels 16 --context 16 --micro-batch 1 --batch-tokens 64 \
    --val-every 0 --val-tokens 64 --threads 1 --quiet "$@"
}
both=10.77.0.1:1,10.77.0.2:1

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
train 10.77.0.1:2 --steps 50 --out one || true
LR_OF_B='' train "$both" --steps 50 --out two || true
check 'weights of one host and of two' is_same model.safetensors
check 'optimizer of one host and of two' is_same optimizer.safetensors

says() { grep -F "$1" err >/dev/null || { cat err; return 1; }; }
LR_OF_B=0.5 train "$both" --steps 50 --out other 2>err || true
check 'another LATHE_LR on host-b' says 'lathe: --lr: rank 0 on host-a has 0.003, rank 1 on host-b has 0.5'

# Until the first rank has ended; mpirun could not end the second one without it.
cut_cable() {
  until [[ -e cut/checkpoints/step-00000020 ]]; do sleep 0.05; done
  ip link set cable down
  while grep -q '"running"' cut/result.json; do sleep 0.05; done
  ip link set cable up
}
cut_cable &
LR_OF_B='' train "$both" --steps 1000000 --checkpoint-every 20 --rank-timeout 2s --out cut 2>err || true
check 'a cable that is cut' says 'rank 1 on host-b: nothing heard for 2 s (--rank-timeout)'
check 'the result of the first rank' grep '"exit_code": 8' cut/result.json
echo "passed $passed of $all"
[[ $passed -eq $all ]]

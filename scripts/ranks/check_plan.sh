#!/usr/bin/env bash
# lathe plan against measured steps of two ranks, a thread each, on two hosts (two_hosts.sh) whose cable carries
# no more than is said. The rate of the products is the one with which the plan of one rank takes as long as a
# step of one rank took; everything else is what was set. Prints Markdown. Wants two cores that nobody else uses.
#
#     scripts/ranks/check_plan.sh [MBIT_PER_SECOND...]      400 1000 4000 without any
#
# LATHE_BUILD names the build's folder.
set -euo pipefail
here=$(realpath "$(dirname "$0")")
source "$here/two_hosts.sh"
lathe=$(realpath "${LATHE_BUILD:-$here/../../build}/lathe")
rates=("$@")
[[ $# -gt 0 ]] || rates=(400 1000 4000)
cd "$hosts_folder"

model=(--layers 6 --heads 6 --channels 384 --context 64 --micro-batch 4 --precision fp32)
steps=12
# OPTIONS...: milliseconds of a step, the median of all but the first three.
measured_ms() {
  "$@" --steps $steps --out run --overwrite --quiet --val-every 0 --val-tokens 64 --sample-every 0 --checkpoint-every 0 \
    >log 2>&1 || { cat log >&2; exit 1; }
  python3 -c '
import json, statistics, sys
lines = [json.loads(line) for line in open("run/metrics.jsonl")]
rates = [line["perf/tokens_per_second"] for line in lines if "train/loss" in line][3:]
print(1e3 * int(sys.argv[1]) / statistics.median(rates))' "$tokens"
}
# RATE OPTIONS...: milliseconds that the plan says.
planned_ms() {
  local rate=$1
  shift
  "$lathe" plan --json --device cpu "${model[@]}" --vocab 256 --gemm-tflops "$rate" --memory-gbytes "$memory" "$@" |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["scale"]["predicted"]["step_ms"])'
}
calculate() { python3 -c "print($1)"; }

memory=$("$lathe" bench --json --device cpu --threads 1 --model tiny --steps 2 |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["ceilings"]["triad_gbytes_per_second"])')
train=("$lathe" train --device cpu --threads 1 "${model[@]}")
tokens=256
one=$(measured_ms "${train[@]}" --batch-tokens $tokens)
rate=0.1
for _ in 1 2 3 4; do
  rate=$(calculate "$rate * $(planned_ms "$rate" --gpus 1) / $one")
done

for interface in '' on_b; do
  $interface tc qdisc add dev cable root tbf rate 10gbit burst 256kb latency 50ms
done
echo "one rank: $(printf '%.0f' "$one") ms measured; from it products at $(printf '%.3f' "$rate") TFLOP/s, memory at" \
  "$(printf '%.1f' "$memory") GB/s"
echo
echo '| cable, Mbit/s | micro-steps | predicted, ms | measured, ms | measured / predicted |'
echo '|---|---|---|---|---|'
for mbits in "${rates[@]}"; do
  for interface in '' on_b; do
    $interface tc qdisc change dev cable root tbf rate "${mbits}mbit" burst 256kb latency 50ms
  done
  for micro_steps in 1 4; do
    tokens=$((512 * micro_steps))
    both=$(measured_ms mpirun_both $both_hosts "${train[@]}" --batch-tokens $tokens)
    predicted=$(planned_ms "$rate" --gpus 1 --nodes 2 --node-link-gbytes "$(calculate "$mbits / 8000")" \
      --node-link-microseconds 100 --batch-tokens $tokens)
    echo "| $mbits | $micro_steps | $(printf '%.0f' "$predicted") | $(printf '%.0f' "$both") |" \
      "$(printf '%.2f' "$(calculate "$both / $predicted")") |"
  done
done

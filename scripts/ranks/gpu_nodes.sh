#!/usr/bin/env bash
# One run by the GPUs of several machines, without mpirun or Slurm: started on each of them, it starts a
# process for each GPU there, with the variables that torchrun would set.
#
#   scripts/ranks/gpu_nodes.sh 2 0 node-a /shared/runs/big --batch-tokens 524288     # on node-a
#   scripts/ranks/gpu_nodes.sh 2 1 node-a /shared/runs/big --batch-tokens 524288     # on the other
#
# The words are: how many machines; the number of this one, from 0; an address of number 0; the folder of the
# run, which all see; options of lathe train. All machines have the same number of GPUs. PORT (29500) must be
# free on number 0, GPUS is how many to use (default: all that nvidia-smi lists), LATHE_BINARY the lathe.
#
# On one machine `lathe train --gpus all` does the same in one process.
#
# INT, TERM and USR1 go to all processes here: the run saves and stops. The exit code is that of the process
# that failed first, 0 when none has.
set -euo pipefail
usage='gpu_nodes.sh MACHINES NUMBER ADDRESS OUT OPTIONS...'
machines=${1:?how many machines there are is missing: $usage}
machine=${2:?the number of this machine is missing: $usage}
address=${3:?the address of machine 0 is missing: $usage}
out=${4:?the folder of the run is missing: $usage}
shift 4
lathe=${LATHE_BINARY:-$(realpath "$(dirname "$0")/../../build/lathe")}
gpus=${GPUS:-$(nvidia-smi --list-gpus | wc -l)}

children=()
for signal in INT TERM USR1; do
  # shellcheck disable=SC2064  # the name is that of now
  trap "kill -$signal \"\${children[@]}\" 2>/dev/null || true" "$signal"
done
for ((gpu = 0; gpu < gpus; gpu++)); do
  RANK=$((machine * gpus + gpu)) WORLD_SIZE=$((machines * gpus)) LOCAL_RANK=$gpu LOCAL_WORLD_SIZE=$gpus \
    MASTER_ADDR=$address MASTER_PORT=${PORT:-29500} \
    "$lathe" train --device cuda --out "$out" --resume=auto "$@" &
  children+=($!)
done

# A wait ends with a signal as well: again then. Each of them is waited for, as the others end by themselves
# when one has failed.
code=0
for ((left = gpus; left > 0;)); do
  one=0
  wait -n -p ended "${children[@]}" || one=$?
  [[ -n ${ended:-} ]] || continue
  left=$((left - 1))
  for i in "${!children[@]}"; do [[ ${children[i]} != "$ended" ]] || unset 'children[i]'; done
  ((code != 0)) || code=$one
done
exit "$code"

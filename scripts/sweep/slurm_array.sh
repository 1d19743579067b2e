#!/usr/bin/env bash
#SBATCH --job-name=lathe-grid
#SBATCH --array=0-8
#SBATCH --ntasks=1
#SBATCH --gpus=1
#SBATCH --time=04:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
# The grid of grid.sh as an array of Slurm jobs, one run each, that may be longer than a job.
#
#   sbatch scripts/sweep/slurm_array.sh OUT OPTIONS...
#   MAX_TIME=3h50m sbatch --time=04:00:00 scripts/sweep/slurm_array.sh OUT OPTIONS...
#
# --array has to count LRS times SEEDS. 120 seconds before the end of its time Slurm sends USR1 to
# what srun has started, not to this shell (that would be B:USR1@120), lathe saves and ends with
# 128+10, and the job goes back into the queue, to go on from there. With MAX_TIME lathe sees to the
# time by itself and ends with 124. Any other exit code is the job's: 0 finished, 7 diverged, 2 wrong
# options. Preempted jobs are put back by Slurm (--requeue).
#
# LATHE_BINARY names the lathe: Slurm runs a copy of this script, that lies elsewhere. A job goes back at
# most MOST_RESTARTS times, so that one that saves nothing in its time comes to an end.
set -euo pipefail
out=${1:?the folder of the runs is missing: sbatch slurm_array.sh OUT OPTIONS...}
shift
lathe=${LATHE_BINARY:-lathe}
read -ra lrs <<<"${LRS:-1e-4 3e-4 1e-3}"
read -ra seeds <<<"${SEEDS:-1 2 3}"
task=${SLURM_ARRAY_TASK_ID:?is for sbatch: not an array job of Slurm}
if ((task >= ${#lrs[@]} * ${#seeds[@]})); then
  echo "slurm_array.sh: --array $task: there are ${#lrs[@]} x ${#seeds[@]} runs, from 0" >&2
  exit 2
fi
lr=${lrs[task / ${#seeds[@]}]}
seed=${seeds[task % ${#seeds[@]}]}

code=0
srun "$lathe" train "$@" --out "$out" --name "lr$lr-s$seed" --lr "$lr" --seed "$seed" --resume=auto \
  ${MAX_TIME:+--max-time "$MAX_TIME"} || code=$?

if [[ $code -eq 124 || $code -eq 138 ]]; then
  if ((${SLURM_RESTART_COUNT:-0} < ${MOST_RESTARTS:-100})); then
    scontrol requeue "$SLURM_JOB_ID" && exit 0
  else
    echo "slurm_array.sh: has been restarted MOST_RESTARTS times, $SLURM_RESTART_COUNT; not again" >&2
  fi
fi
exit "$code"

#!/usr/bin/env bash
#SBATCH --job-name=lathe
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=2
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
# One run by several ranks, on one node or several, that may be longer than a job.
#
#   sbatch scripts/ranks/slurm.sh OUT OPTIONS...                                    # options of lathe train
#   sbatch --nodes=1 --ntasks-per-node=4 scripts/ranks/slurm.sh OUT OPTIONS...      # on one node
#   MAX_TIME=3h50m sbatch scripts/ranks/slurm.sh OUT OPTIONS...
#
# OUT must be a folder that all nodes see. 120 seconds before the end of its time Slurm sends USR1 to what
# srun has started, all ranks save after the same step, and the job goes back into the queue, to go on from
# there. With MAX_TIME lathe sees to the time by itself. So does a job go back whose rank has died; a
# preempted one, and one whose node fails, is put back by Slurm (--requeue).
#
# What happens next stands in OUT's result.json and not in srun's exit code, which is the largest of all
# ranks. 124 and 138 (128 + USR1): time is over; 8: a rank failed the others; no code: the first rank was
# killed. Any other is the job's: 0 finished, 7 diverged, 2 wrong options.
#
# LATHE_BINARY names the lathe: Slurm runs a copy of this script, that lies elsewhere. A job goes back at most
# MOST_RESTARTS times, so that one that saves nothing in its time comes to an end.
set -euo pipefail
out=${1:?the folder of the run is missing: sbatch slurm.sh OUT OPTIONS...}
shift
lathe=${LATHE_BINARY:-lathe}

# srun does not take over --cpus-per-task from sbatch by itself (since Slurm 22.05).
launched=0
result=$(cat "$out/result.json" 2>/dev/null) || true
srun --mpi=pmix ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} \
  "$lathe" train --device cpu "$@" --out "$out" --resume=auto ${MAX_TIME:+--max-time "$MAX_TIME"} || launched=$?

# "STATUS CODE" of the run; nothing where there is none.
run_status() {
  "$lathe" ls "$out" --csv --columns status,exit_code 2>/dev/null | tail -n +2 |
    sed -E 's/.*,([a-z]+),([0-9]*)\r?$/\1 \2/'
}
read -r status code <<<"$(run_status)" || true
if [[ -z $status || $result == "$(cat "$out/result.json")" ]]; then
  exit "$launched"  # it has not begun: what stands there is of an earlier job
fi
case $status,$code in
  stopped,124 | stopped,138 | failed,8 | killed, | unknown, | running,) ;;
  *) exit "$code" ;;
esac
if ((${SLURM_RESTART_COUNT:-0} < ${MOST_RESTARTS:-100})); then
  scontrol requeue "$SLURM_JOB_ID" && exit 0
else
  echo "slurm.sh: has been restarted MOST_RESTARTS times, $SLURM_RESTART_COUNT; not again" >&2
fi
exit "${code:-1}"

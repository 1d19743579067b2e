#!/usr/bin/env bash
# The grid of grid.sh on several devices at once, with xargs. Prints a table of the runs as CSV.
#
#   DEVICES='0 1 2 3' scripts/sweep/xargs.sh OUT OPTIONS...   # GPUs, as CUDA_VISIBLE_DEVICES has them
#   JOBS=2 scripts/sweep/xargs.sh OUT OPTIONS...              # on the CPU, which shares out its threads
#
# LRS, SEEDS and LATHE_BINARY are as of grid.sh, and so is what happens when it is started again. A
# signal stops all runs, which save, and so does a run that fails in another way than by diverging:
# it lets no other begin. The exit code is 0 when every run has finished or diverged, 143 after a
# signal, else 1; a line on stderr has the exit code of the run.
set -euo pipefail
out=${1:?the folder of the runs is missing: xargs.sh OUT OPTIONS...}
shift
export lathe=${LATHE_BINARY:-$(dirname "$0")/../../build/lathe}
export devices=${DEVICES:-}
jobs=$(wc -w <<<"$devices")
if [[ $jobs -eq 0 ]]; then
  jobs=${JOBS:-2}
  threads=$(($(nproc) / jobs))
  set -- --device cpu --threads "$((threads > 0 ? threads : 1))" "$@"
fi

# Of a run that is there: its line of name, status and exit code says so.
has_diverged() {
  "$lathe" ls "$1" --csv --columns exit_code 2>/dev/null | tr -d '\r' | grep ',failed,7$' >/dev/null
}

# A line of options for each run that is not known to diverge.
grid() {
  for lr in ${LRS:-1e-4 3e-4 1e-3}; do
    for seed in ${SEEDS:-1 2 3}; do
      name=lr$lr-s$seed
      has_diverged "$out/$name" || echo "--name $name --lr $lr --seed $seed"
    done
  done
}

# Trains with these options on the device of this slot. Exit code 255 lets xargs begin no other run.
run_one() {
  local code=0 gpus
  read -ra gpus <<<"$devices"
  [[ ${#gpus[@]} -eq 0 ]] || export CUDA_VISIBLE_DEVICES=${gpus[SLOT]}
  env --default-signal=TERM "$lathe" train "$@" >&2 || code=$?
  case $code in
    0) ;;
    7) echo "xargs.sh: has diverged: $*" >&2 ;;
    *)
      echo "xargs.sh: exit code $code: $*" >&2
      exit 255
      ;;
  esac
}
export -f run_one

stopped=''
trap 'stopped=yes; kill -TERM -- "-$child" 2>/dev/null || true' INT TERM HUP

# A process group of their own, which gets the signals of this script as TERM. Only lathe listens;
# xargs and its shells wait until it has saved. xargs does not wait for others once a run has exited
# with 255, but all of them hold the pipe open that cat reads.
set -m
(
  trap '' TERM
  xargs -r -L 1 -P "$jobs" --process-slot-var=SLOT \
    bash -c 'run_one "$@"' xargs.sh --out "$out" --resume=auto "$@" < <(grid) | cat >&2
) &
child=$!
[[ -z $stopped ]] || kill -TERM -- "-$child"  # that came before there was a child
code=0
wait "$child" || code=$?
[[ -z $stopped ]] || wait "$child" || code=$?

if [[ -n $stopped ]]; then
  echo 'xargs.sh: stopped; start again to go on' >&2
  exit 143
fi
[[ $code -eq 0 ]] || exit 1
"$lathe" ls "$out" --csv --columns name,status,step,best_val_loss,lr,seed --sort best_val_loss

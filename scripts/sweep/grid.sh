#!/usr/bin/env bash
# A grid of learning rates and seeds, one run after the other. Prints a table of the runs as CSV.
#
#   scripts/sweep/grid.sh OUT OPTIONS...     # options of lathe train, the same for all runs
#
#   LRS='1e-3 3e-3' SEEDS='1 2 3' scripts/sweep/grid.sh runs/grid --train book.txt --steps 2000
#
# Started again, it goes on where it was stopped, and leaves alone what has finished or diverged. A
# signal stops the run that is under way, which saves, and the grid. The exit code is 0 when every
# run has finished or diverged, else that of the run that ended the grid. LATHE_BINARY names the lathe.
set -euo pipefail
out=${1:?the folder of the runs is missing: grid.sh OUT OPTIONS...}
shift
lathe=${LATHE_BINARY:-$(dirname "$0")/../../build/lathe}

# Of a run that is there: its line of name, status and exit code says so.
has_diverged() {
  "$lathe" ls "$1" --csv --columns exit_code 2>/dev/null | tr -d '\r' | grep ',failed,7$' >/dev/null
}

stopped='' child=''
trap 'stopped=yes; kill -TERM "$child" 2>/dev/null || true' INT TERM HUP

# In the background, as bash hears no signal while it waits for a command in the foreground.
run() {
  "$@" &
  child=$!
  [[ -z $stopped ]] || kill -TERM "$child"  # that came before there was a child
  local code=0
  wait "$child" || code=$?
  [[ -z $stopped ]] || wait "$child" || code=$?  # the first wait ended with the signal
  return "$code"
}

for lr in ${LRS:-1e-4 3e-4 1e-3}; do
  for seed in ${SEEDS:-1 2 3}; do
    name=lr$lr-s$seed
    if has_diverged "$out/$name"; then continue; fi
    code=0
    run "$lathe" train "$@" --out "$out" --name "$name" --lr "$lr" --seed "$seed" --resume=auto >&2 ||
      code=$?
    [[ -z $stopped || $code -ne 0 ]] || code=143
    case $code in
      0) ;;
      7) echo "grid.sh: $name has diverged" >&2 ;;
      *)
        echo "grid.sh: stopped at $name, exit code $code; start again to go on" >&2
        exit "$code"
        ;;
    esac
  done
done
"$lathe" ls "$out" --csv --columns name,status,step,best_val_loss,lr,seed --sort best_val_loss

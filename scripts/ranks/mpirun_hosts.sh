#!/usr/bin/env bash
# One run by several ranks on several hosts, with mpirun, that goes on when a rank or a host has died.
#
#   scripts/ranks/mpirun_hosts.sh HOSTFILE RANKS OUT OPTIONS...     # options of lathe train
#
#   printf '%s\n' 'node-a slots=4' 'node-b slots=4' >hosts
#   scripts/ranks/mpirun_hosts.sh hosts 8 /shared/runs/big --batch-tokens 65536 --rank-timeout 2m
#
# OUT must be the same folder on all hosts, and so must lathe, which LATHE_BINARY names. Ranks get their
# options from this command line alone: mpirun takes no LATHE_* to other hosts.
#
# What happens next stands in OUT's result.json and never in mpirun's exit code, which is that of whichever
# rank ended first. The run is started again, from its last checkpoint, when a rank failed the others (8),
# its time was over (124: --max-time), or nobody was left to say why. After MOST_RESTARTS of these in a row
# without a new checkpoint, RESTART_PAUSE seconds apart, the script gives up. A signal stops the run, which
# saves. The exit code is that of the run; 1 where there is none, or where it was killed.
#
# MPIRUN is the launcher with arguments of its own: MPIRUN='mpirun --mca btl_tcp_if_include eth0'.
set -euo pipefail
usage='mpirun_hosts.sh HOSTFILE RANKS OUT OPTIONS...'
hosts=${1:?the file of hosts is missing: $usage}
ranks=${2:?the number of ranks is missing: $usage}
out=${3:?the folder of the run is missing: $usage}
shift 3
lathe=${LATHE_BINARY:-$(realpath "$(dirname "$0")/../../build/lathe")}
read -ra mpirun <<<"${MPIRUN:-mpirun}"

# Of the run, "STATUS CODE": `finished 0`, `failed 8`, `killed `; nothing where there is none.
run_status() {
  "$lathe" ls "$out" --csv --columns status,exit_code 2>/dev/null | tail -n +2 |
    sed -E 's/.*,([a-z]+),([0-9]*)\r?$/\1 \2/'
}

newest_checkpoint() {
  { find "$out/checkpoints" -maxdepth 1 -name 'step-*' 2>/dev/null || true; } | sort | tail -n 1
}

# mpirun hands USR1 on to all ranks; told to end itself, it would leave them no time to save.
stopped='' child=''
trap 'stopped=yes; [[ -z $child ]] || kill -USR1 "$child" 2>/dev/null || true' INT TERM HUP

# In the background, as bash hears no signal while it waits for a command in the foreground.
run() {
  "${mpirun[@]}" --hostfile "$hosts" --bind-to none -n "$ranks" \
    "$lathe" train --device cpu "$@" --out "$out" --resume=auto &
  child=$!
  [[ -z $stopped ]] || kill -USR1 "$child"  # that came before there was a child
  wait "$child" || true
  [[ -z $stopped ]] || wait "$child" || true  # the first wait ended with the signal
  child=''
}

in_vain=0
while true; do
  before=$(newest_checkpoint)
  result=$(cat "$out/result.json" 2>/dev/null) || true
  run "$@"
  read -r status code <<<"$(run_status)" || true
  if [[ -n $result && $status != finished && $result == "$(cat "$out/result.json")" ]]; then
    status='not begun' code=''  # what stands there is of an earlier start
  fi
  case $status,$code in
    finished,*) exit 0 ;;
    ,*)
      echo "mpirun_hosts.sh: there is no run in $out: see above why it has not begun" >&2
      exit 1
      ;;
    failed,8 | stopped,* | killed, | unknown, | running, | 'not begun',) ;;
    *) exit "$code" ;;
  esac
  [[ -z $stopped ]] || exit "${code:-1}"
  if [[ $(newest_checkpoint) == "$before" ]]; then in_vain=$((in_vain + 1)); else in_vain=0; fi
  if ((in_vain > ${MOST_RESTARTS:-3})); then
    echo "mpirun_hosts.sh: $status${code:+, exit code $code}: started $in_vain times without a new" \
      "checkpoint (MOST_RESTARTS); not again" >&2
    exit "${code:-1}"
  fi
  from=$(newest_checkpoint)
  echo "mpirun_hosts.sh: $status${code:+, exit code $code}: again, from ${from:-the beginning}" >&2
  ((in_vain == 0)) || sleep "${RESTART_PAUSE:-10}"
done

#!/usr/bin/env bash
# N runs (100) of 4 ranks under mpirun, in which one is killed with -9: at 50 steps, of every rank, and
# with mpirun as it is and with --enable-recovery. The others end with exit code 8 and save nothing;
# --resume=auto then goes on to the weights of an unbroken run.
# Last line: passed N of M. Needs a build with tests; LATHE_BUILD names its folder.
exec python3 "$(dirname "$0")/rank_kills.py" "$@"

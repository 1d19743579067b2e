#!/usr/bin/env bash
# N random kill -9 (1000) of runs with a checkpoint each step, --resume=auto in a loop; the
# final weights must be those of an unbroken run.
# Last line: passed N of M. Needs a build with tests; LATHE_BUILD names its folder.
exec python3 "$(dirname "$0")/random_kills.py" "$@"

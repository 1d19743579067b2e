#!/usr/bin/env bash
# Signals that ask to stop, in phases of a run, N cases (126: six signals, seven phases, three moments):
# the exit code is 128 + the signal's number, within 2 seconds, and the saved step is the current one.
# Last line: passed N of M. Needs a build with tests; LATHE_BUILD names its folder.
exec python3 "$(dirname "$0")/signals.py" "$@"

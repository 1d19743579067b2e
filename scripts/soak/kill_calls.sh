#!/usr/bin/env bash
# Kills a run before and after every file system call of a save, retention and start, N steps long (8).
# More than 400 kills; each run goes on with --resume=auto and must end with the bits of an unbroken one.
# Last line: passed N of M. Needs a build with tests; LATHE_BUILD names its folder.
exec python3 "$(dirname "$0")/kill_calls.py" "$@"

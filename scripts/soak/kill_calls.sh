#!/usr/bin/env bash
# Kills a run before and after every file system call that it makes, or at N of these places: more
# than 1,500. Each run goes on with --resume=auto and must end with the bits of an unbroken one.
# Last line: passed N of M. Needs a build with tests; LATHE_BUILD names its folder.
exec python3 "$(dirname "$0")/kill_calls.py" "$@"

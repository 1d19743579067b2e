#!/usr/bin/env bash
# That the fault shim sees every file system call of a run: compares its trace with strace's, N runs (4).
# Exits with 77 where there is no strace or nobody may trace.
# Last line: passed N of M. Needs a build with tests; LATHE_BUILD names its folder.
if ! strace -o /dev/null true 2>/dev/null; then
  echo 'shim_calls.sh: skipped: needs strace, and leave to trace' >&2
  exit 77
fi
exec python3 "$(dirname "$0")/shim_calls.py" "$@"

#!/usr/bin/env bash
# A disk that is really full: runs on tmpfs of N sizes (64). Each ends with 0 or 6 and keeps whatever it has
# saved; with more room it goes on to the bits of an unbroken one. Exits with 77 where nobody may mount.
# Last line: passed N of M. Needs a build with tests; LATHE_BUILD names its folder.
# What is mounted is seen by these processes alone, and goes with the last of them.
if ! unshare --mount --propagation private true 2>/dev/null; then
  echo 'full_disk.sh: skipped: mounting needs root (CAP_SYS_ADMIN)' >&2
  exit 77
fi
exec unshare --mount --propagation private python3 "$(dirname "$0")/full_disk.py" "$@"

#!/usr/bin/env bash
# N injected errors (500) of write, fsync, rename, mkdir and open, and short writes: the run cures them or
# exits with 6; what it has saved is whole, and it goes on to the bits of an unbroken one.
# Last line: passed N of M. Needs a build with tests; LATHE_BUILD names its folder.
exec python3 "$(dirname "$0")/io_errors.py" "$@"

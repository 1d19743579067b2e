#!/usr/bin/env bash
# Every bit of a checkpoint's manifest and headers, every length of its files, N random bits of the
# payload (20000): all damage must be found. With fewer than 20000 every 16th bit and length.
# Last line: passed N of M. Needs a build with tests; LATHE_BUILD names its folder.
exec python3 "$(dirname "$0")/bit_flips.py" "$@"

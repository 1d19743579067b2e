#!/usr/bin/env bash
# Save at step k, resume to step 40, N pairs (240): the same bits and metrics as without a break.
# Last line: passed N of M. Needs a build with tests; LATHE_BUILD names its folder.
exec python3 "$(dirname "$0")/exact_resume.py" "$@"

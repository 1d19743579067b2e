#!/usr/bin/env bash
# Power failures: N states (10000) of the disk at all prefixes of a recorded run's calls, with what was not
# synced dropped or torn; each must hold a whole checkpoint, and some are really resumed.
# Last line: passed N of M. Needs a build with tests; LATHE_BUILD names its folder.
exec python3 "$(dirname "$0")/power_loss.py" "$@"

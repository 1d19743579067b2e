#!/usr/bin/env bash
# Tiny Shakespeare, 1 MB of text, into FOLDER (data/ if not given): data/fetch_tinyshakespeare.sh [FOLDER]
set -euo pipefail
here=$(realpath "$(dirname "$0")")
source "$here/fetch.sh"

fetch https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt \
  "${1:-$here}/tinyshakespeare.txt" \
  86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed

#!/usr/bin/env bash
# GPT-2's vocab.bpe, 0.5 MB, into FOLDER: data/fetch_gpt2_tokenizer.sh [FOLDER]. Not given, it is the
# cache folder, where --tokenizer gpt2 looks.
set -euo pipefail
source "$(realpath "$(dirname "$0")")/fetch.sh"

fetch https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/vocab.bpe \
  "${1:-${XDG_CACHE_HOME:-$HOME/.cache}/lathe}/vocab.bpe" \
  1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5

#!/usr/bin/env bash
# HellaSwag's 10,042 validation examples (Zellers et al., arXiv:1905.07830) as llm.c's evaluation file,
# 4 MB, into FOLDER (data/ if not given): data/fetch_hellaswag.sh [FOLDER]
set -euo pipefail
here=$(realpath "$(dirname "$0")")
source "$here/fetch.sh"

fetch https://huggingface.co/datasets/karpathy/llmc-starter-pack/resolve/main/hellaswag_val.bin \
  "${1:-$here}/hellaswag_val.bin" "" check_evaluation_file

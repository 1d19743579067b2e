#!/usr/bin/env bash
# TinyStories, those that GPT-4 wrote (Eldan and Li, arXiv:2305.07759), 2.2 GB of text, into FOLDER
# (data/tinystories if not given): data/fetch_tinystories.sh [FOLDER]
set -euo pipefail
here=$(realpath "$(dirname "$0")")
source "$here/fetch.sh"

folder=${1:-$here/tinystories}
address=https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main
fetch "$address/TinyStoriesV2-GPT4-valid.txt" "$folder/TinyStoriesV2-GPT4-valid.txt" \
  6874bae9a4c1a4e7edcf0e53b86c17817e9cf881fc75ff2368da457b80c0585d
fetch "$address/TinyStoriesV2-GPT4-train.txt" "$folder/TinyStoriesV2-GPT4-train.txt" \
  6418d412de72888f52b5142c761ac21a582f7d1166f0bfbdb5f03ccfdec90443

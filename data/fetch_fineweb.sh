#!/usr/bin/env bash
# FineWeb as GPT-2's tokens, in shards of 100M tokens (200 MB): the validation shard and the first
# SHARDS of training, all if not given, into FOLDER (data/SET if not given):
# data/fetch_fineweb.sh [SET [SHARDS [FOLDER]]]
#
# SET              shards
# fineweb10B       103
# fineweb100B      1030
# finewebedu10B    99      FineWeb-Edu
# edu_fineweb100B  1001    FineWeb-Edu
set -euo pipefail
here=$(realpath "$(dirname "$0")")
source "$here/fetch.sh"

set=${1:-fineweb10B}
case $set in
  fineweb10B) repository=kjj0/fineweb10B-gpt2 prefix=fineweb all=103 ;;
  fineweb100B) repository=kjj0/fineweb100B-gpt2 prefix=fineweb all=1030 ;;
  finewebedu10B) repository=kjj0/finewebedu10B-gpt2 prefix=finewebedu all=99 ;;
  edu_fineweb100B)
    repository=karpathy/fineweb-edu-100B-gpt2-token-shards prefix=edu_fineweb all=1001 ;;
  *) fetch_fail "$set: must be fineweb10B, fineweb100B, finewebedu10B or edu_fineweb100B" ;;
esac
shards=${2:-$all}
[[ $shards =~ ^[1-9][0-9]{0,3}$ && $shards -le $all ]] ||
  fetch_fail "$shards: must be a number of shards from 1 to $all"
folder=${3:-$here/$set}

address=https://huggingface.co/datasets/$repository/resolve/main
fetch_shard() {
  fetch "$address/$1" "$folder/$1" "" check_token_shard
}
fetch_shard "${prefix}_val_000000.bin"
for ((shard = 1; shard <= shards; ++shard)); do
  fetch_shard "$(printf '%s_train_%06d.bin' "$prefix" "$shard")"
done

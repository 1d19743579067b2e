#!/usr/bin/env bash
# One of the GPT-2 reproduction runs, for scripts/gpt2_*.sh: builds Lathe, fetches the data and trains
# on one GPU, with what llm.c's scripts/run_gpt2_*.sh set. Started again it goes on from the newest
# checkpoint, and after the end it does nothing.
#
#   gpt2_run.sh NAME SET SHARDS OPTIONS...
#
# NAME is the run's folder in RUNS (runs if not set), SET and SHARDS are data/fetch_fineweb.sh's. With
# DRY=1 it takes two steps of a tiny model on the CPU instead, with shards made on the spot and every
# other option as it is. LATHE_BINARY is a lathe to use instead of building one.
set -euo pipefail
cd "$(dirname "$0")/.."
name=$1 set=$2 shards=$3
shift 3
runs=${RUNS:-runs}

# They stand last, and the last one of a name counts.
dry=(--layers 1 --heads 1 --channels 16 --context 32 --seq-len 32 --micro-batch 2 --batch-tokens 128
  --steps 2 --warmup-steps 1 --val-tokens 64 --device cpu --precision fp32)

# A shard of so many tokens, all of them made of letters.
dry_shard() {
  local magic='\x88\xd8\x34\x01' version='\x01\0\0\0' tokens=$1
  printf "$magic$version\\x$(printf %02x $((tokens % 256)))\\x$(printf %02x $((tokens / 256)))\\0\\0"
  head -c 1012 /dev/zero
  awk -v n="$tokens" 'BEGIN { for (i = 0; i < n; ++i) printf "%c%c", 97 + i % 7, 97 + i % 11 }'
}

# A multiple-choice task of one example: "a", then "b" or "c".
dry_task() {
  printf '\x8a\xd8\x34\x01\x01\0\0\0\x01\0\0\0\x16\0\0\0'
  head -c 1008 /dev/zero
  printf '\xff\xff\x16\0\0\0\0\0\x02\0\x01\0a\0\x01\0b\0\x01\0c\0'
}

if [[ -z ${LATHE_BINARY:-} ]]; then
  [[ -f build/build.ninja ]] || cmake --preset release -DLATHE_BUILD_TESTS=OFF >/dev/null
  cmake --build build --target lathe
fi
lathe=${LATHE_BINARY:-build/lathe}

more=()
if [[ ${DRY:-} == 1 ]]; then
  out=$runs/dry/$name/run
  folder=$runs/dry/$name/data
  mkdir -p "$folder"
  dry_shard 1100 >"$folder/${set}_val_000000.bin"
  dry_shard 2000 >"$folder/${set}_train_000001.bin"
  task=$folder/task.bin
  dry_task >"$task"
  more=("${dry[@]}")
else
  out=$runs/$name
  folder=data/$set
  data/fetch_fineweb.sh "$set" "$shards" "$folder"
  data/fetch_hellaswag.sh
  task=data/hellaswag_val.bin
fi

exec "$lathe" train --out "$out" --resume=auto \
  --train "$folder/*_train_*.bin" --val "$folder/*_val_*.bin" \
  --multiple-choice "$task" \
  --device cuda --precision bf16 --seq-len 1024 --warmup-steps 700 --weight-decay 0.1 \
  --lr-schedule cosine --val-every 250 --val-tokens 10485760 --sample-every 20000 \
  --checkpoint-every 1000 "$@" "${more[@]}"

#!/usr/bin/env bash
# GPT-2 1558M on 33.6B tokens of FineWeb-Edu: 32,000 steps of 1,048,576 tokens, as llm.c's
# run_gpt2_1558M.sh, but for the data: llm.c's run shuffled all 1001 shards, this one fetches the first
# 336 of them, which are as many tokens as it takes.
#
# Expected: HellaSwag acc_norm of 48.9 %, which OpenAI's checkpoint has, at about step 25,000 (llm.c,
# discussion 677). The validation loss on FineWeb-Edu is not to be compared with the smaller runs'.
#
# Cost, published: 24 hours of 8 H100, $672 (llm.c). Predicted on one H100 at 40 % of 989 TFLOP/s:
# 9.6 days, about $810 at $3.50 an hour. Data: 67 GB; GPU memory: 70.3 GB (lathe plan).
exec "$(dirname "$0")/gpt2_run.sh" gpt2_1558m edu_fineweb100B 336 --model gpt2-xl --micro-batch 16 \
  --batch-tokens 1048576 --steps 32000 --lr 6e-4 --final-lr-fraction 0.1 "$@"

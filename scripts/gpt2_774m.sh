#!/usr/bin/env bash
# GPT-2 774M on 150B tokens of FineWeb, one and a half times its 100B: 286,102 steps of 524,288 tokens,
# as llm.c's run_gpt2_774M.sh.
#
# Expected validation loss: below 3.001, that of OpenAI's checkpoint (llm.c, dev/vislog.ipynb, with
# HellaSwag acc_norm 43.2 %). Predicted: 2.60, as in gpt2_350m.sh.
#
# Cost, published: 135 hours of 8 A100, about $2000 (llm.c). Predicted on one H100 at 40 % of
# 989 TFLOP/s: 22 days, about $1800 at $3.50 an hour. Data: 206 GB; GPU memory: 64.4 GB (lathe plan).
exec "$(dirname "$0")/gpt2_run.sh" gpt2_774m fineweb100B 1030 --model gpt2-large --micro-batch 32 \
  --batch-tokens 524288 --steps 286102 --lr 2.5e-4 --final-lr-fraction 0 "$@"

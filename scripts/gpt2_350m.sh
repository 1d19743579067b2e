#!/usr/bin/env bash
# GPT-2 350M on 31.5B tokens of FineWeb: 60,000 steps of 524,288 tokens, as llm.c's run_gpt2_350M.sh.
#
# Expected validation loss: below 3.083, that of OpenAI's checkpoint (llm.c, dev/vislog.ipynb, with
# HellaSwag acc_norm 37.5 %). Predicted: 2.88, the 124M run's loss plus what Hoffmann et al.
# (arXiv:2203.15556, approach 3) say the size and the tokens change.
#
# Cost, published: 13.7 hours of 8 A100, about $200 (llm.c). Predicted on one H100 at 40 % of
# 989 TFLOP/s: 50 hours, about $180 at $3.50 an hour. Data: 63 GB; GPU memory: 60.4 GB (lathe plan).
exec "$(dirname "$0")/gpt2_run.sh" gpt2_350m fineweb100B 315 --model gpt2-medium --micro-batch 64 \
  --batch-tokens 524288 --steps 60000 --lr 3e-4 --final-lr-fraction 0 "$@"

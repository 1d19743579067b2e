#!/usr/bin/env bash
# GPT-2 124M on 10B tokens of FineWeb: 19,560 steps of 524,288 tokens, as llm.c's run_gpt2_124M.sh.
#
# Expected validation loss: 3.29 (llm.c, discussion 481, May 2024), or 3.2722 with llm.c of October 2024
# (modded-nanogpt, records/track_1_short/2024-10-13_llmc, the same steps on the same shards); HellaSwag
# acc_norm 29.9 %. OpenAI's checkpoint has 3.425 and 29.4 % (llm.c, dev/vislog.ipynb).
#
# Cost, published: 94 minutes of 8 A100, about $20 (llm.c); 46 minutes of 8 H100 (the record above).
# Predicted on one H100 at 40 % of 989 TFLOP/s: 6 hours, about $20 at $3.50 an hour. Data: 21 GB;
# GPU memory: 23.6 GB (lathe plan).
exec "$(dirname "$0")/gpt2_run.sh" gpt2_124m fineweb10B 103 --model gpt2 --micro-batch 64 \
  --batch-tokens 524288 --steps 19560 --lr 6e-4 --final-lr-fraction 0 "$@"

"""R1 on SmolLM2-135M-Instruct and word problems, for a machine of two cores:
cold start, reasoning RL, rejection sampling, SFT, and a second RL run.

    make word-problems DATA=DIR

DIR holds gsm8k_train.jsonl, gsm8k_test.jsonl and mawps_singleop.jsonl, from
which make_data.py makes ROOT/data. There is no R1-Zero, since the base model
finds almost no correct response by itself: the cold-start data are the
solutions of GSM8K, rewritten. There are no reward models, since all data are
mathematics.
"""

ROOT = 'runs/word_problems'
BASE = 'models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf'
COMPUTE = dict(dtype='bfloat16', remat='full')
PROMPT = dict(template='chat', max_len=200)
MAX_NEW_TOKENS = 128

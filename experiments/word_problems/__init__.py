"""R1 on SmolLM2-135M-Instruct and word problems: cold start, reasoning RL,
rejection sampling, SFT and a second RL, for a machine of two cores.

    make word-problems DATA=DIR

DIR holds gsm8k_train.jsonl, gsm8k_test.jsonl and mawps_singleop.jsonl; world.py
makes ROOT/data of them. The base has no R1-Zero, since at this size it finds
next to no correct response by itself, so GSM8K's own solutions, rewritten, are
the cold start; and there are no reward models, for nothing but mathematics is
asked.
"""

ROOT = 'runs/word_problems'
BASE = 'models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf'
COMPUTE = dict(dtype='bfloat16', remat='full')
PROMPT = dict(template='chat', max_len=200)
ROOM = 128  # tokens of a response

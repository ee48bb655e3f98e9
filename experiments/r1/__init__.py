"""DeepSeek-R1 with the paper's values, a config file a stage, for real models.

What the paper leaves open and all stages share:
- BASE is the dense model that the paper, too, trained by pure RL (B.4.1): there
  is no mixture of experts here for DeepSeek-V3-Base. One too large for a replica
  is sharded; `micro` and `parallel.tensor_parallel` are the machine's, to be set on the
  command line.
- From the cold start on, prompts are a text without a system prompt (as the
  model's README advises) that every tokenizer knows, and every response begins
  with '<think>\\n': records to learn from too, those that think nothing by
  '<think>\\n\\n</think>'.
- There is no verifier of programs: leave code out of the RL data.

ROOT/data holds, as jsonl: problems, held, cold, sampled, polite, pairs, judged,
scenarios, held_all, aime_2024, math_500. ROOT/cold.jsonl are the rewritten
responses of sample_zero.
"""

ROOT = 'runs/r1'
BASE = 'Qwen/Qwen2.5-32B'
COMPUTE = dict(dtype='bfloat16', remat='full')
PARALLEL = dict(strategy='mesh')
PROMPT = dict(
  template='User: {question}\n\nAssistant:',
  prefill='<think>\n',
  max_len=2_048,  # a logic puzzle has 420 tokens on average (B.3.1)
)

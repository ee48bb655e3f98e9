"""DeepSeek-R1 with the values of the paper, one config file a stage, for real
models. Choices that the paper leaves open and that all stages share:

- BASE is DeepSeek-V3-Base, as in the paper. experiments/pods.md has the memory
  and time of a step on v5p:8x8x8. For a smaller machine name another model,
  e.g. Qwen/Qwen2.5-32B, which the paper also trained by pure RL (B.4.1). Set
  `micro_batch_size` and `parallel.tensor_parallel` for your machine on the
  command line.
- From the cold start on, the prompt is plain text without a system prompt (as
  the README of DeepSeek-R1 recommends), which every tokenizer encodes. Every
  response begins with '<think>\\n', also those of training records; records
  without thoughts begin with '<think>\\n\\n</think>'.
- Records of code need unit tests, which run in a sandbox.

ROOT/data holds these jsonl files: problems, held_out, cold_start,
rejection_sampling, non_reasoning, preferences, safety_labels, all_scenarios,
held_out_all, aime_2024, math_500. ROOT/cold_start.jsonl holds the rewritten
responses of the stage sample_zero.
"""

ROOT = 'runs/r1'
BASE = 'deepseek-ai/DeepSeek-V3-Base'
COMPUTE = dict(dtype='bfloat16', remat='full')
PARALLEL = dict(strategy='mesh')
PROMPT = dict(
  template='User: {question}\n\nAssistant:',
  prefill='<think>\n',
  max_len=2_048,  # a logic puzzle has 420 tokens on average (B.3.1)
)

"""R1-Zero on SmolLM2-135M-Instruct: sums of two numbers. The prompt contains
two solved examples, since with the r1_zero template a model of this size never
answers correctly (pure RL failed on small models in the paper, too)."""

from experiments import base

FEW_SHOT = """\
Question: What is 3 + 14?
<think> 3 + 14 = 17 </think> <answer> 17 </answer>

Question: What is 25 - 4?
<think> 25 - 4 = 21 </think> <answer> 21 </answer>

Question: {question}
"""


def get_config():
  config = base.get_config('rl')
  config.init = 'models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf'
  config.prompts = (
    'gym:chain_sum?count=4000&min_terms=2&max_terms=2&min_digits=1&max_digits=2'
  )
  config.steps = 20
  config.micro_batch_size = 16
  config.rewards = dict(accuracy=1.0, format=0.5)
  config.eval.every = 10
  config.eval.held_out = 96
  config.eval.samples = 4
  config.prompt.template = FEW_SHOT
  config.prompt.prefill = '<think>'
  config.prompt.stop_strings = ('</answer>', ' </answer>')
  config.prompt.max_len = 128
  config.sample.max_new_tokens = 48
  config.sample.decode_slots = 64
  config.grpo.prompts_per_step = 8
  config.grpo.group_size = 8
  config.grpo.loss_agg = 'token_mean'
  config.grpo.kl_coef = 0.0
  config.grpo.old_logprobs = 'trainer'
  config.grpo.tis_cap = 2.0
  config.compute.dtype = 'bfloat16'
  config.compute.remat = 'full'
  config.optim.lr = 2e-5
  config.optim.warmup = 2
  config.save_every = 10
  return config

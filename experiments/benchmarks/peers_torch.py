"""Times generate of transformers and an update in plain torch:
python -m experiments.benchmarks.peers_torch WORKLOAD --model DIR"""

import argparse

import torch
import transformers

from experiments.benchmarks import workload

# In the update: float32 parameters, products in bfloat16 by autocast.
MIXED_PRECISION = 'bfloat16'


def rollout(options: argparse.Namespace, sizes: workload.Sizes) -> None:
  """W1: each prompt repeated, no truncation of the distribution, no end
  token."""
  model = load(options.model, getattr(torch, options.dtype))
  prompt_BT = repeated_prompts(options.model, sizes)
  config = transformers.GenerationConfig(
    do_sample=True,
    temperature=1.0,
    top_k=0,
    top_p=1.0,
    max_new_tokens=sizes.max_new_tokens,
    eos_token_id=None,
    pad_token_id=0,
  )

  @torch.inference_mode()
  def sample():
    rows = model.generate(
      prompt_BT,
      attention_mask=torch.ones_like(prompt_BT),
      generation_config=config,
    )
    assert rows.shape == (sizes.rows, sizes.prompt_len + sizes.max_new_tokens)

  times = workload.time_calls(sample, sizes.reps)
  workload.report(
    'transformers', 'rollout', options.dtype, sizes.sampled_tokens, *times
  )


def update(options: argparse.Namespace, sizes: workload.Sizes) -> None:
  """W2: reference log-probabilities, gradient of the GRPO loss, AdamW."""
  policy = load(options.model, torch.float32)
  ref = load(options.model, torch.float32)
  ref.requires_grad_(False)
  optimizer = torch.optim.AdamW(
    policy.parameters(), lr=workload.LR, betas=(0.9, 0.95), weight_decay=0.0
  )
  torch.manual_seed(0)
  prompt_BT = repeated_prompts(options.model, sizes)
  response_BT = torch.randint(
    3, policy.config.vocab_size, (sizes.rows, sizes.max_new_tokens)
  )
  tokens_BL = torch.cat([prompt_BT, response_BT], dim=1)
  adv_B1 = torch.randn(sizes.rows, 1)
  micro_batches = list(
    zip(
      tokens_BL.split(options.micro_batch_size),
      adv_B1.split(options.micro_batch_size),
    )
  )
  autocast = torch.autocast(
    'cpu', torch.bfloat16, enabled=options.dtype == MIXED_PRECISION
  )

  def logprobs(model, rows_BL):
    with autocast:
      output = model(
        rows_BL, use_cache=False, logits_to_keep=sizes.max_new_tokens + 1
      )
    logits = output.logits[:, :-1].float()
    response_BT1 = rows_BL[:, sizes.prompt_len :, None]
    return logits.gather(2, response_BT1)[..., 0] - logits.logsumexp(2)

  def learn():
    optimizer.zero_grad(set_to_none=True)
    for rows_BL, adv in micro_batches:
      with torch.no_grad():
        ref_logp = logprobs(ref, rows_BL)
      logp = logprobs(policy, rows_BL)
      ratio = (logp - logp.detach()).exp()
      low, high = 1 - workload.CLIP, 1 + workload.CLIP
      surrogate = torch.minimum(ratio * adv, ratio.clamp(low, high) * adv)
      kl = (ref_logp - logp).exp() - (ref_logp - logp) - 1
      token_loss = workload.KL_COEF * kl - surrogate
      loss = token_loss.mean(dim=1).sum() / sizes.rows
      loss.backward()
    torch.nn.utils.clip_grad_norm_(policy.parameters(), workload.CLIP_NORM)
    optimizer.step()

  times = workload.time_calls(learn, sizes.reps)
  variant = f'{options.dtype} micro {options.micro_batch_size}'
  workload.report('torch', 'update', variant, sizes.trained_tokens, *times)


def load(directory: str, dtype: torch.dtype) -> transformers.PreTrainedModel:
  model = transformers.AutoModelForCausalLM.from_pretrained(
    directory, dtype=dtype
  )
  return model.eval()


def repeated_prompts(directory: str, sizes: workload.Sizes) -> torch.Tensor:
  """The ids of the prompts, each in group_size adjacent rows."""
  _, ids_PT = workload.make_prompts(directory, sizes)
  tokens_PT = torch.tensor(ids_PT, dtype=torch.int64)
  return tokens_PT.repeat_interleave(sizes.group_size, dim=0)


def main() -> None:
  parser = workload.make_parser(
    __doc__.partition(':')[0], ('rollout', 'update')
  )
  options = parser.parse_args()
  sizes = workload.get_sizes(options)
  if options.workload == 'rollout':
    rollout(options, sizes)
  else:
    update(options, sizes)


if __name__ == '__main__':
  main()

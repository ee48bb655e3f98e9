"""Times transformers' generate and an update in plain torch:
python -m experiments.benchmarks.peers_torch WORKLOAD --model DIR"""

import torch
import transformers

from experiments.benchmarks import workload

MIXED = 'bfloat16'  # float32 parameters, autocast products, in the update


def rollout(options, s):
  """W1: every row repeated, the whole distribution, no end token."""
  network = load(options.model, getattr(torch, options.dtype))
  prompt_BT = repeated_prompts(options.model, s)
  how = transformers.GenerationConfig(
    do_sample=True,
    temperature=1.0,
    top_k=0,
    top_p=1.0,
    max_new_tokens=s.new,
    eos_token_id=None,
    pad_token_id=0,
  )

  @torch.inference_mode()
  def draw():
    rows = network.generate(
      prompt_BT,
      attention_mask=torch.ones_like(prompt_BT),
      generation_config=how,
    )
    assert rows.shape == (s.rows, s.prompt + s.new)

  times = workload.timed(draw, s.reps)
  workload.report('transformers', 'rollout', options.dtype, s.drawn, *times)


def update(options, s):
  """W2: reference log-probabilities, gradient of the GRPO loss, AdamW."""
  policy, ref = (load(options.model, torch.float32) for _ in range(2))
  ref.requires_grad_(False)
  optimizer = torch.optim.AdamW(
    policy.parameters(), lr=workload.LR, betas=(0.9, 0.95), weight_decay=0.0
  )
  torch.manual_seed(0)
  prompt_BT = repeated_prompts(options.model, s)
  drawn_BT = torch.randint(3, policy.config.vocab_size, (s.rows, s.new))
  tokens_BL = torch.cat([prompt_BT, drawn_BT], dim=1)
  adv_B1 = torch.randn(s.rows, 1)
  autocast = torch.autocast(
    'cpu', torch.bfloat16, enabled=options.dtype == MIXED
  )

  def logprobs(network, rows_BL):
    with autocast:
      logits = network(
        rows_BL, use_cache=False, logits_to_keep=s.new + 1
      ).logits[:, :-1]
    drawn_BT1 = rows_BL[:, s.prompt :, None]
    logits = logits.float()
    return logits.gather(2, drawn_BT1)[..., 0] - logits.logsumexp(2)

  def learn():
    optimizer.zero_grad(set_to_none=True)
    for rows_BL, adv in zip(
      tokens_BL.split(options.micro), adv_B1.split(options.micro)
    ):
      with torch.no_grad():
        ref_logp = logprobs(ref, rows_BL)
      logp = logprobs(policy, rows_BL)
      ratio = (logp - logp.detach()).exp()
      low, high = 1 - workload.CLIP, 1 + workload.CLIP
      gain = torch.minimum(ratio * adv, ratio.clamp(low, high) * adv)
      kl = (ref_logp - logp).exp() - (ref_logp - logp) - 1
      loss = (workload.BETA * kl - gain).mean(dim=1).sum() / s.rows
      loss.backward()
    torch.nn.utils.clip_grad_norm_(policy.parameters(), workload.CLIP_NORM)
    optimizer.step()

  times = workload.timed(learn, s.reps)
  variant = f'{options.dtype} micro {options.micro}'
  workload.report('torch', 'update', variant, s.trained, *times)


def load(directory, dtype):
  return transformers.AutoModelForCausalLM.from_pretrained(
    directory, dtype=dtype
  ).eval()


def repeated_prompts(directory, s):
  ids_PT = torch.tensor(workload.prompts(directory, s)[1], dtype=torch.int64)
  return ids_PT.repeat_interleave(s.group, dim=0)


if __name__ == '__main__':
  options = workload.arguments(
    __doc__.partition(':')[0], ('rollout', 'update')
  ).parse_args()
  dict(rollout=rollout, update=update)[options.workload](
    options, workload.sizes(options)
  )

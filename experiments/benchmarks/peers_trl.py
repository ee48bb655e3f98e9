"""Times whole steps of TRL's GRPOTrainer and their parts:
python -m experiments.benchmarks.peers_trl step --model DIR"""

import argparse
import os
import tempfile
import time

os.environ['HF_HUB_OFFLINE'] = '1'

import datasets  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
import trl  # noqa: E402

from experiments.benchmarks import workload  # noqa: E402


class TimedTrainer(trl.GRPOTrainer):
  """Records the seconds of every call of the sampler."""

  def __init__(self, **arguments):
    self.sampling_seconds = []
    super().__init__(**arguments)

  def _generate(self, *arguments, **named):
    began = time.perf_counter()
    out = super()._generate(*arguments, **named)
    self.sampling_seconds.append(time.perf_counter() - began)
    return out


class StepTimes(transformers.TrainerCallback):
  """Records the time at which every step ended, after that of the start."""

  def __init__(self):
    self.times = [time.perf_counter()]

  def on_step_end(self, *_, **__):
    self.times.append(time.perf_counter())


def step(options: argparse.Namespace, sizes: workload.Sizes) -> None:
  """W3, and within it the sampling (W1) and the rest (W2)."""
  on_gpu = torch.cuda.is_available()
  # On a GPU parameters and AdamW are in bfloat16 too, as many train.
  dtype = getattr(torch, options.dtype) if on_gpu else torch.float32
  tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
  texts, ids_PT = workload.make_prompts(options.model, sizes)
  assert tokenizer(texts)['input_ids'] == ids_PT.tolist()

  def reward(completion_ids, **_):
    assert {len(row) for row in completion_ids} == {sizes.max_new_tokens}
    return [float(sum(row) % 7) for row in completion_ids]

  with tempfile.TemporaryDirectory() as directory:
    config = trl.GRPOConfig(
      output_dir=directory,
      per_device_train_batch_size=options.micro_batch_size,
      gradient_accumulation_steps=sizes.rows // options.micro_batch_size,
      num_generations=sizes.group_size,
      max_completion_length=sizes.max_new_tokens,
      generation_kwargs=dict(min_new_tokens=sizes.max_new_tokens),
      temperature=1.0,
      top_p=1.0,
      top_k=0,
      beta=workload.KL_COEF,
      epsilon=workload.CLIP,
      loss_type='grpo',
      learning_rate=workload.LR,
      max_grad_norm=workload.CLIP_NORM,
      adam_beta2=0.95,
      max_steps=1 + sizes.reps,
      bf16=options.dtype == 'bfloat16',
      gradient_checkpointing=False,
      use_cpu=not on_gpu,
      shuffle_dataset=False,
      save_strategy='no',
      report_to='none',
      disable_tqdm=True,
    )
    step_times = StepTimes()
    trainer = TimedTrainer(
      model=transformers.AutoModelForCausalLM.from_pretrained(
        options.model, dtype=dtype
      ),
      processing_class=tokenizer,
      reward_funcs=reward,
      args=config,
      train_dataset=datasets.Dataset.from_dict(dict(prompt=texts)),
      callbacks=[step_times],
    )
    step_times.times = [time.perf_counter()]
    trainer.train()
  times = step_times.times
  warmup, *step_seconds = [b - a for a, b in zip(times, times[1:])]
  assert len(trainer.sampling_seconds) == 1 + sizes.reps
  rollout_seconds = trainer.sampling_seconds[1:]
  update_seconds = [a - b for a, b in zip(step_seconds, rollout_seconds)]
  variant = f'{options.dtype} micro {options.micro_batch_size}'
  peak = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else 0.0
  for name, tokens, seconds in (
    ('step', sizes.sampled_tokens, step_seconds),
    ('rollout', sizes.sampled_tokens, rollout_seconds),
    ('update', sizes.trained_tokens, update_seconds),
  ):
    workload.report(
      'trl',
      name,
      variant,
      tokens,
      warmup,
      seconds,
      peak_device_gib=round(peak, 2),
    )


def main() -> None:
  parser = workload.make_parser(__doc__.partition(':')[0], ('step',))
  options = parser.parse_args()
  step(options, workload.get_sizes(options))


if __name__ == '__main__':
  main()

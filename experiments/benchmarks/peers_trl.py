"""Times whole steps of TRL's GRPOTrainer, and its parts:
python -m experiments.benchmarks.peers_trl step --model DIR"""

import os
import tempfile
import time

os.environ['HF_HUB_OFFLINE'] = '1'

import datasets  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
import trl  # noqa: E402

from experiments.benchmarks import workload  # noqa: E402


class Clock(trl.GRPOTrainer):
  """Notes how long every call of the sampler took."""

  def __init__(self, **how):
    self.sampling = []
    super().__init__(**how)

  def _generate(self, *arguments, **named):
    began = time.perf_counter()
    out = super()._generate(*arguments, **named)
    self.sampling.append(time.perf_counter() - began)
    return out


class Ends(transformers.TrainerCallback):
  """Notes when every step ended."""

  def __init__(self):
    self.times = [time.perf_counter()]

  def on_step_end(self, *_, **__):
    self.times.append(time.perf_counter())


def main(options, s):
  words = transformers.AutoTokenizer.from_pretrained(options.model)
  texts, ids_PT = workload.prompts(options.model, s)
  assert words(texts)['input_ids'] == ids_PT.tolist()
  mixed = options.dtype == 'bfloat16'

  def reward(completion_ids, **_):
    assert {len(row) for row in completion_ids} == {s.new}
    return [float(sum(row) % 7) for row in completion_ids]

  with tempfile.TemporaryDirectory() as directory:
    how = trl.GRPOConfig(
      output_dir=directory,
      per_device_train_batch_size=options.micro,
      gradient_accumulation_steps=s.rows // options.micro,
      num_generations=s.group,
      max_completion_length=s.new,
      generation_kwargs=dict(min_new_tokens=s.new),
      temperature=1.0,
      top_p=1.0,
      top_k=0,
      beta=workload.BETA,
      epsilon=workload.CLIP,
      loss_type='grpo',
      learning_rate=workload.LR,
      max_grad_norm=workload.CLIP_NORM,
      adam_beta2=0.95,
      max_steps=1 + s.reps,
      bf16=mixed,
      gradient_checkpointing=False,
      use_cpu=True,
      shuffle_dataset=False,
      save_strategy='no',
      report_to='none',
      disable_tqdm=True,
    )
    ends = Ends()
    trainer = Clock(
      model=transformers.AutoModelForCausalLM.from_pretrained(
        options.model, dtype=torch.float32
      ),
      processing_class=words,
      reward_funcs=reward,
      args=how,
      train_dataset=datasets.Dataset.from_dict(dict(prompt=texts)),
      callbacks=[ends],
    )
    ends.times = [time.perf_counter()]
    trainer.train()
  warmup, *whole = [b - a for a, b in zip(ends.times, ends.times[1:])]
  assert len(trainer.sampling) == 1 + s.reps
  sampled = trainer.sampling[1:]
  rest = [a - b for a, b in zip(whole, sampled)]
  variant = f'{options.dtype} micro {options.micro}'
  for name, tokens, seconds in (
    ('step', s.drawn, whole),
    ('rollout', s.drawn, sampled),
    ('update', s.trained, rest),
  ):
    workload.report('trl', name, variant, tokens, warmup, seconds)


if __name__ == '__main__':
  options = workload.arguments(
    __doc__.partition(':')[0], ('step',)
  ).parse_args()
  main(options, workload.sizes(options))

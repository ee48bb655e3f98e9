"""Times rollouts of vLLM on a CPU:
python -m experiments.benchmarks.peers_vllm rollout --model DIR"""

import argparse
import os

os.environ['HF_HUB_OFFLINE'] = '1'
os.environ.setdefault('VLLM_CPU_KVCACHE_SPACE', '2')  # GiB
# In this process, whose peak memory is reported.
os.environ['VLLM_ENABLE_V1_MULTIPROCESSING'] = '0'

import vllm  # noqa: E402

from experiments.benchmarks import workload  # noqa: E402


def rollout(options: argparse.Namespace, sizes: workload.Sizes) -> None:
  """W1: no end token, no truncation of the distribution. The samples of a
  prompt share its cache; calls do not, since the first token of a prompt is
  another in each. GRPO needs the log-probabilities of the sampled tokens;
  without --logprobs they are not computed."""
  engine = vllm.LLM(
    model=options.model,
    dtype=options.dtype,
    max_model_len=sizes.prompt_len + sizes.max_new_tokens,
    max_num_seqs=max(64, sizes.rows),
    skip_tokenizer_init=True,
    seed=0,
  )
  _, ids_PT = workload.make_prompts(options.model, sizes)
  config = vllm.SamplingParams(
    n=sizes.group_size,
    temperature=1.0,
    max_tokens=sizes.max_new_tokens,
    ignore_eos=True,
    detokenize=False,
    logprobs=0 if options.logprobs else None,
  )
  calls = 0

  def sample():
    nonlocal calls
    calls += 1
    ids_PT[:, 0] = 5 + calls
    prompts = [dict(prompt_token_ids=ids_T.tolist()) for ids_T in ids_PT]
    groups = engine.generate(prompts, config, use_tqdm=False)
    rows = [row for group in groups for row in group.outputs]
    assert len(rows) == sizes.rows
    assert all(len(row.token_ids) == sizes.max_new_tokens for row in rows)

  times = workload.time_calls(sample, sizes.reps)
  variant = options.dtype + (' logprobs' if options.logprobs else '')
  workload.report('vLLM', 'rollout', variant, sizes.sampled_tokens, *times)


def main() -> None:
  parser = workload.make_parser(__doc__.partition(':')[0], ('rollout',))
  parser.add_argument(
    '--logprobs', action='store_true', help='of the sampled tokens too'
  )
  options = parser.parse_args()
  rollout(options, workload.get_sizes(options))


if __name__ == '__main__':
  main()

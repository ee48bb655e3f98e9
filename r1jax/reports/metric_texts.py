"""What each metric of a run means, in a sentence, and the panels of a report.

The only place for these sentences: pages and generated documentation read them
here. Patterns have * for the names of rewards and of a user's own metrics."""

import dataclasses
import fnmatch
from collections.abc import Iterable, Mapping

SHARE = 'share'
NATS = 'nats a token'


@dataclasses.dataclass(frozen=True)
class Panel:
  """A chart of metrics that have one unit."""

  title: str
  unit: str
  metrics: Mapping[str, str]  # the meaning, by name or pattern
  least: float | None = None  # of the vertical axis, where that is fixed
  largest: float | None = None
  hides_zero: bool = False  # what is always 0 is left out
  is_exact: bool = False  # without noise, so that it is not smoothed


SECTIONS: dict[str, tuple[Panel, ...]] = {
  'Results': (
    Panel(
      'Held-out pass@1',
      'share correct, 95 % interval',
      {
        'eval/pass1': 'The share of sampled responses to held-out problems that '
        'are correct, as a mean over the problems.'
      },
      least=0,
      largest=1,
    ),
    Panel(
      'Held-out accuracy',
      'share, 95 % interval',
      {
        'eval/accuracy': 'The share of held-out records that the reward model '
        'orders or classifies as labelled.'
      },
      least=0,
      largest=1,
    ),
    Panel(
      'Reward',
      'mean of the responses',
      {
        'reward': 'The weighted sum of the rewards of a response, which the '
        'policy learns to raise.',
        'reward/*': 'One reward of the sum, before its weight.',
      },
    ),
    Panel(
      'Held-out reward',
      'mean of the responses, 95 % interval',
      {
        'eval/reward': 'The weighted sum of the rewards on held-out prompts.',
        'eval/reward/*': 'One reward of the sum on held-out prompts.',
      },
    ),
    Panel(
      'Held-out loss',
      'nats a token, 95 % interval',
      {
        'eval/loss': 'The mean cross entropy of the tokens of held-out '
        'responses.'
      },
    ),
    Panel(
      'Held-out perplexity',
      'exp(loss)',
      {
        'eval/perplexity': 'The exponential of the held-out loss: as uncertain '
        'as a choice among so many tokens.'
      },
    ),
    Panel(
      'Accuracy of the batch',
      SHARE,
      {'accuracy': 'The share of the batch that the reward model gets right.'},
      least=0,
      largest=1,
    ),
    Panel(
      'Loss',
      'nats',
      {
        'loss': 'What the optimiser lowers: in sft a mean over tokens, in '
        'reward_model over pairs or records; in rl it is near zero by '
        'construction and says little about progress.',
        'eval/loss': 'The loss on held-out records.',
      },
    ),
    Panel(
      'Calibration of the reward model',
      'held-out',
      {
        'eval/calibration_error': 'The mean difference between the predicted '
        'probability and the share that it holds for.',
        'eval/brier': 'The mean squared error of the predicted probability.',
      },
    ),
    Panel(
      'Mean score of the reward model',
      'held-out',
      {'eval/centre': 'What a score is centred by when it becomes a reward.'},
    ),
  ),
  'Responses': (
    Panel(
      'Response length',
      'tokens',
      {
        'length': 'The mean number of tokens of a sampled response.',
        'eval/length': 'The same on held-out prompts.',
      },
    ),
    Panel(
      'Truncated responses',
      SHARE,
      {
        'truncated': 'The share of responses that reached the limit of tokens '
        'before their end.',
        'eval/truncated': 'The same on held-out prompts.',
      },
      least=0,
      hides_zero=True,
    ),
    Panel(
      'Entropy',
      NATS,
      {
        'entropy': 'How undecided the policy is about the next token; near zero '
        'it explores no more.'
      },
      least=0,
    ),
    Panel(
      'Groups without signal',
      SHARE,
      {
        'dead_groups': 'The share of prompts whose responses all have the same '
        'reward, so that they teach nothing.',
        'eval/dead_groups': 'The same on held-out prompts.',
      },
      least=0,
      largest=1,
    ),
    Panel(
      'Responses without a reward',
      SHARE,
      {
        'unscored': 'The share of responses whose reward could not be computed; '
        'they are left out of the update.',
        'eval/unscored': 'The same on held-out prompts.',
      },
      least=0,
      hides_zero=True,
    ),
    Panel(
      'Failures of verifiers',
      'responses',
      {
        'verify/timeout': 'Answers that took too long to verify; they count as '
        'wrong.',
        'verify/memory': 'Answers that took too much memory to verify; they '
        'count as wrong.',
        'verify/crashed': 'Answers on which the verifier crashed; they count as '
        'wrong.',
        'verify/input': 'Answers too long to be sent to the verifier; they '
        'count as wrong.',
        'verify/output': 'Answers whose verdict was too long to be returned; '
        'they count as wrong.',
        'verify/unjudged': 'Answers that the verifier could not judge; they '
        'have no reward.',
        'verify/infra': 'Verdicts that failed for a reason of the machine; they '
        'have no reward.',
      },
      least=0,
      hides_zero=True,
    ),
  ),
  'Update': (
    Panel(
      'KL to the reference',
      NATS,
      {'kl': 'How far the policy is from the reference policy.'},
    ),
    Panel(
      'Clipped tokens',
      SHARE,
      {
        'clip_fraction': 'The share of tokens whose ratio of new to old '
        'probability is outside the clip range.'
      },
      least=0,
      hides_zero=True,
    ),
    Panel(
      'Gradient norm',
      'before clipping',
      {'grad_norm': 'The length of the gradient; peaks are unusual batches.'},
      least=0,
    ),
    Panel(
      'Learning rate',
      'per step',
      {'lr': 'The rate of the optimiser after warm-up and schedule.'},
      least=0,
      is_exact=True,
    ),
    Panel(
      'Skipped updates',
      'updates',
      {
        'skipped': 'Updates that were left out since their gradient was not '
        'finite.'
      },
      least=0,
      hides_zero=True,
    ),
    Panel(
      'Loss of multi-token prediction',
      NATS,
      {'mtp_loss': 'The loss of the module that predicts one token further.'},
    ),
    Panel(
      'Metrics of the objective',
      '',
      {'objective/*': 'Returned by the objective of the config.'},
    ),
  ),
  'Sampler and experts': (
    Panel(
      'Sampler against trainer',
      'mean |Δ log p|',
      {
        'sampling_logp_difference': 'How much the log-probabilities of sampler '
        'and trainer differ; it should be near rounding.',
        'old_logp_difference': 'How much the log-probabilities of the update '
        'and the old ones differ: how far the policy has moved since then.',
      },
      least=0,
    ),
    Panel(
      'Load of the busiest expert',
      'multiple of the mean',
      {
        'router/max_load': 'The tokens of the busiest expert over the mean of '
        'all experts; 1 is perfect balance.'
      },
    ),
    Panel(
      'Experts without tokens',
      SHARE,
      {'router/dead_experts': 'The share of experts that no token chose.'},
      least=0,
      hides_zero=True,
    ),
    Panel(
      'Experts, sampler against trainer',
      'share of choices',
      {
        'router/flips': 'How often sampler and trainer choose different experts '
        'for a token.'
      },
      least=0,
      hides_zero=True,
    ),
  ),
  'Time': (
    Panel(
      'Seconds of a step',
      'seconds',
      {
        'seconds': 'The whole step, without evaluations and checkpoints.',
        'time/sample': 'Sampling the responses.',
        'time/score': 'Old and reference log-probabilities.',
        'time/rewards': 'Waiting for the rewards after sampling.',
        'time/update': 'The gradient and the optimiser.',
      },
      least=0,
    ),
    Panel(
      'Speed',
      'tokens a second',
      {'tokens_per_s': 'Tokens of responses, or of a batch, over the time.'},
      least=0,
    ),
    Panel(
      'Use of the devices',
      SHARE,
      {
        'occupancy': 'The share of decode slots that hold an unfinished '
        'response.',
        'padding': 'The share of the columns of an update that are padding.',
        'time/waiting': 'The share of a step in which rewards were awaited.',
        'time/idle_*': 'The share of a step in which these devices were idle.',
      },
      least=0,
      largest=1,
    ),
    Panel(
      'Tokens of a decode step',
      'tokens a slot',
      {'tokens_per_step': 'Tokens that a step accepts from the draft.'},
      least=1,
    ),
    Panel(
      'Samples that started again',
      'tokens',
      {
        'restarted_tokens': 'Tokens that were sampled a second time, because '
        'the pages of the cache did not suffice.',
      },
      least=0,
    ),
    Panel(
      'Compiled programs',
      'programs so far',
      {
        'time/programs': 'Programs that were compiled or loaded; a number that '
        'keeps growing costs time.'
      },
      least=0,
      is_exact=True,
    ),
  ),
}
# Numbers that belong to others: intervals and counts.
BESIDE = {
  'step': 'The number of updates so far.',
  'eval/low': 'The lower end of the 95 % interval of the held-out score.',
  'eval/high': 'The upper end of the 95 % interval of the held-out score.',
  'eval/reward_low': 'The lower end of the 95 % interval of the held-out '
  'reward.',
  'eval/reward_high': 'The upper end of the 95 % interval of the held-out '
  'reward.',
  'eval/loss_low': 'The lower end of the 95 % interval of the held-out loss.',
  'eval/loss_high': 'The upper end of the 95 % interval of the held-out loss.',
  'eval/problems': 'The held-out problems that the score is over.',
  'eval/records': 'The held-out records that the score is over.',
}
INTERVALS = {
  'eval/pass1': ('eval/low', 'eval/high'),
  'eval/accuracy': ('eval/low', 'eval/high'),
  'eval/reward': ('eval/reward_low', 'eval/reward_high'),
  'eval/loss': ('eval/loss_low', 'eval/loss_high'),
}


def panels() -> list[Panel]:
  """The panels of all sections."""
  return [panel for section in SECTIONS.values() for panel in section]


def meaning(name: str) -> str:
  """The sentence about a metric; '' for one that r1jax does not know."""
  tables = [BESIDE, *(panel.metrics for panel in panels())]
  for metrics in tables:
    for pattern, sentence in metrics.items():
      if fnmatch.fnmatchcase(name, pattern):
        return sentence
  return ''


def label(name: str) -> str:
  """A short name of a curve."""
  name = name.replace('eval/', 'held-out ').replace('reward/', '')
  return name.removeprefix('time/').removeprefix('verify/')


def names_of(panel: Panel, names: Iterable[str]) -> list[str]:
  """Those of the names that the panel shows, in the order of its patterns."""
  names, found = list(names), []
  for pattern in panel.metrics:
    found += [x for x in names if fnmatch.fnmatchcase(x, pattern)]
  return list(dict.fromkeys(found))


def own_panel(name: str) -> Panel:
  """The panel of a metric that r1jax does not know."""
  return Panel(name, '', {name: ''})


def markdown() -> str:
  """A table of all metrics and their sentences, for the documentation."""
  lines = ['| metric | unit | meaning |', '| --- | --- | --- |']
  for panel in panels():
    for pattern, sentence in panel.metrics.items():
      lines.append(f'| `{pattern}` | {panel.unit} | {sentence} |')
  for name, sentence in BESIDE.items():
    lines.append(f'| `{name}` |  | {sentence} |')
  return '\n'.join(lines).replace('|Δ log p|', 'Δ log p, absolute') + '\n'

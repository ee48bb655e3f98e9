r"""The verifier of mathematics that other projects use, Hugging Face's package
math-verify, for figures that can be compared with theirs. It is chosen by
config.verify.math_verifier and runs in worker processes.
"""

import importlib.util

from r1jax import errors
from r1jax.data.bad_records import BadRecords
from r1jax.rewards import format, guarded_eval, verdict
from r1jax.rewards.math import grading
from r1jax.rewards.verdict import Record, Records, Texts, Verdict, VerifyConfig

WORKER = 'r1jax.rewards.math_verify:compare'
GOLD_WORKER = 'r1jax.rewards.math_verify:can_read'
REQUIREMENT = 'math-verify==0.9.0'


def extract(text: str) -> str | None:
  r"""What math-verify reads in a response: the last \boxed{} after the thinking;
  without a box, the content of <answer>, or the whole text after the thinking,
  in which it looks for a value."""
  text, is_tagged = format.answer_part(text)
  boxes = grading.find_boxes(text)
  if boxes:
    return rf'\boxed{{{_innermost(boxes[-1])}}}'
  text = text.strip()
  if is_tagged and text and '$' not in text:
    return rf'\boxed{{{text}}}'
  return text or None


def check(record: Record) -> None:
  """Raises UserError if the record has no gold answer."""
  gold = record.get('answer')
  if not isinstance(gold, str) or not gold.strip():
    raise errors.UserError(
      f'record {record["id"]} has no answer to compare with: add it'
    )


class MathVerifyVerifier(verdict.Verifier):
  """Compares answers as math-verify does, with its defaults. Handles all records
  that no other verifier handles."""

  check, extract = staticmethod(check), staticmethod(extract)

  def __init__(self, config: VerifyConfig, records: Records) -> None:
    if not importlib.util.find_spec('math_verify'):
      raise errors.UserError(
        'config.verify.math_verifier=math_verify needs another package: pip '
        f'install {REQUIREMENT}'
      )
    self.pool = verdict.open_pool(config, config.seconds)

  @staticmethod
  def handles(record: Record) -> bool:
    return True

  def prepare(self, records: Records) -> None:
    """Raises UserError for all records whose gold math-verify cannot read."""
    records = [x for x in records if isinstance(x.get('answer'), str)]
    golds = list(dict.fromkeys(record['answer'] for record in records))
    results = self.pool.map(GOLD_WORKER, [[gold] for gold in golds])
    readable = {gold for gold, x in zip(golds, results) if x.value}
    bad = BadRecords(key='')
    for record in records:
      if record['answer'] not in readable:
        gold = verdict.quote(record['answer'])
        bad.sentences.append(
          f'the gold answer {gold} of record {record["id"]} cannot be read by '
          'math-verify'
        )
    bad.finish(len(records) - len(bad.sentences), 'the data')

  def judge(self, records: Records, answers: Texts) -> list[Verdict]:
    pairs = zip(answers, records, strict=True)
    jobs = [[answer, record['answer']] for answer, record in pairs]
    return [verdict.of_result(result) for result in self.pool.map(WORKER, jobs)]


def compare(answer: str, gold: str) -> list:
  """The Verdict on an answer, as a list. Called in a worker process."""
  from math_verify import verify

  with guarded_eval.guarded():
    is_equal = verify(_parsed(_gold_text(gold)), _parsed(answer), **NO_TIMEOUT)
  relation = 'is' if is_equal else 'is not'
  shown = f'{verdict.quote(answer)} {relation} {verdict.quote(gold)}'
  return list(verdict.equality(bool(is_equal), f'{shown}, by math-verify'))


def can_read(gold: str) -> bool:
  """Whether math-verify finds a value in a gold answer."""
  with guarded_eval.guarded():
    return bool(_parsed(_gold_text(gold)))


# The worker's own limits replace those of math-verify, which are alarms.
NO_TIMEOUT = dict(timeout_seconds=None)


def _parsed(text):
  from math_verify import parse

  return parse(text, parsing_timeout=None)


def _gold_text(gold):
  return gold if r'\boxed' in gold or '$' in gold else f'${gold}$'


def _innermost(box):
  """The content of a box within which there is nothing but another."""
  inner = grading.find_boxes(box)
  if len(inner) == 1 and box.startswith(('\\boxed', '\\fbox')):
    return _innermost(inner[0]) if box.endswith('}') else box
  return box

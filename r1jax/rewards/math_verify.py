r"""The verifier of mathematics that other projects use, Hugging Face's package
math-verify, for figures that can be compared with theirs. It is chosen by
config.verify.math_verifier and runs in worker processes.
"""

import contextlib
import importlib.util

from r1jax import errors
from r1jax.data import gold_answers
from r1jax.data.bad_records import BadRecords
from r1jax.rewards import format, guarded_eval, verdict
from r1jax.rewards.verdict import Record, Records, Texts, Verdict, VerifyConfig

WORKER = 'r1jax.rewards.math_verify:compare'
GOLD_WORKER = 'r1jax.rewards.math_verify:can_read'
REQUIREMENT = 'math-verify==0.9.0'
MAX_TEXT = 2_000  # last characters that are read of a response without a box
MAX_NESTED = 8  # boxes, each of which contains nothing but the next


def extract(text: str) -> str | None:
  r"""What math-verify reads in a response: the last \boxed{} after the
  thinking; without a box, the content of <answer>, or the end of the text
  after the thinking, in which it looks for a value. None if there is no text.
  """
  text, is_tagged = format.answer_part(text)
  boxes = gold_answers.find_boxes(text)
  if boxes:
    return rf'\boxed{{{_innermost(boxes[-1])}}}'
  text = text.strip()
  if len(text) > MAX_TEXT:
    _, _, lines = text[-MAX_TEXT:].partition('\n')
    return lines.strip() or text[-MAX_TEXT:].strip()
  if is_tagged and text and '$' not in text:
    return rf'\boxed{{{text}}}'
  return text or None


def check(record: Record) -> None:
  """Raises UserError if the record has no gold answer."""
  for gold in gold_answers.alternatives(record.get('answer')):
    if not isinstance(gold, str) or not gold.strip():
      raise errors.UserError(f'record {record["id"]} {verdict.NO_GOLD}')
    if gold_answers.is_prose(gold):
      raise errors.UserError(f'record {record["id"]}: {verdict.PROSE}')


def check_package() -> None:
  """Raises UserError if math-verify is not installed."""
  if not importlib.util.find_spec('math_verify'):
    raise errors.UserError(
      'config.verify.math_verifier=math_verify needs another package: pip '
      f'install {REQUIREMENT}'
    )


class MathVerifyVerifier(verdict.Verifier):
  """Compares answers as math-verify does, with its defaults. Handles all
  records that no other verifier handles."""

  check, extract = staticmethod(check), staticmethod(extract)

  def __init__(self, config: VerifyConfig, records: Records) -> None:
    check_package()
    self.pool = verdict.open_pool(config, config.seconds)

  @classmethod
  def check_all(
    cls, config: VerifyConfig, records: Records, bad: BadRecords
  ) -> list[Record]:
    """The records whose gold math-verify can read; others are noted."""
    if not records:
      return []
    check_package()
    golds, kept = [], list[Record]()
    for record in records:
      golds += gold_answers.alternatives(record.get('answer'))
    golds = list(dict.fromkeys(x for x in golds if isinstance(x, str)))
    with contextlib.closing(verdict.open_pool(config, config.seconds)) as pool:
      results = pool.map(GOLD_WORKER, [[gold] for gold in golds])
    readable = {gold for gold, x in zip(golds, results) if x.value}
    for record in records:
      with bad.noted(record['id']):
        check(record)
        for gold in gold_answers.alternatives(record['answer']):
          if gold not in readable:
            raise errors.UserError(
              f'the gold answer {verdict.quote(gold)} of record '
              f'{record["id"]} cannot be read by math-verify'
            )
        kept.append(record)
    return kept

  @staticmethod
  def handles(record: Record) -> bool:
    """True: it is the last of the verifiers."""
    return True

  def judge(self, records: Records, answers: Texts) -> list[Verdict]:
    """Compares each answer with its record's gold in a worker process."""
    return verdict.best_of_golds(self._judge, records, answers)

  def _judge(self, records, answers):
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
  for _ in range(MAX_NESTED):
    inner = gold_answers.find_boxes(box)
    is_box = box.startswith(('\\boxed', '\\fbox')) and box.endswith('}')
    if len(inner) != 1 or not is_box:
      break
    box = inner[0]
  return box

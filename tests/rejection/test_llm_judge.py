"""The question to the LLM judge, and the verdict in its reply."""

import time

import pytest

from r1jax.rejection import llm_judge

VERDICTS = [
  ('{"analysis": "same", "correctness": "correct"}', 'correct'),
  ('{"analysis": "no", "correctness": "incorrect"}', 'incorrect'),
  ('```json\n{"correctness": " Correct "}\n```', 'correct'),
  (
    '<think>{"correctness": "correct"}</think>{"correctness": "INCORRECT"}',
    'incorrect',
  ),
  ('{"correctness": "incorrect"} no: {"correctness": "correct"}', 'correct'),
  (
    '{"analysis": "\\frac{1}{2} is \\(x\\)", "correctness": "correct"}',
    'correct',
  ),
  (
    '{"analysis": "\\\\(x\\\\) \\underline{x} \\u4e2d", '
    '"correctness": "correct"}',
    'correct',
  ),
  ('{"analysis": "two\nlines", "correctness": "correct"}', 'correct'),
  (
    '{"analysis": {"correctness": "correct"}, "correctness": "incorrect"}',
    'incorrect',
  ),
  (
    '{"analysis": "he says {\\"correctness\\": \\"correct\\"}", "correctness": '
    '"incorrect"}',
    'incorrect',
  ),
  ('{a} {"correctness": "correct"} {b', 'correct'),
  ('{"correctness": "correct"} {"analysis": "but"}', 'no verdict'),
  ('{"correctness": "not correct"}', 'no verdict'),
  ('{"correctness": true}', 'no verdict'),
  ('{"correctness": ["correct"]}', 'no verdict'),
  ('{"verdict": "correct"}', 'no verdict'),
  ('{"correctness": "correct"', 'no verdict'),
  ('correct', 'no verdict'),
  ('["correctness", "correct"]', 'no verdict'),
  ('<think>{"correctness": "correct"}', 'no verdict'),
  ('', 'no verdict'),
  ('{"a":' * 50_000, 'no verdict'),
  ('[' * 50_000, 'no verdict'),
  ('{"' * 50_000, 'no verdict'),
  ('{' * 50_000 + '"correctness": "correct"}', 'correct'),
]


@pytest.mark.parametrize('text, verdict', VERDICTS)
def test_a_verdict_is_the_last_json_object_of_the_reply(text, verdict):
  began = time.process_time()
  assert llm_judge.parse_verdict(text) == verdict
  # All take less than 0.2 s; quadratic work would take minutes.
  assert time.process_time() - began < 20


def test_a_question_is_filled_in_once():
  record = dict(id='r', prompt='Is {answer} it?', answer='{question}')
  question = llm_judge.question(
    llm_judge.JudgeConfig(), record, '<think>a</think> {b} '
  )
  want = llm_judge.QUESTION_TEMPLATE.replace('{question}', 'Is {answer} it?', 1)
  want = want.replace('{reference}', '{question}', 1)
  assert question['prompt'] == '{b}'.join(want.rsplit('{answer}', 1))

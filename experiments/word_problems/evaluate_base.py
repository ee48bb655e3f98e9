"""Evaluation of the base model with two solved problems in the prompt and an
opened <think>: without them it never puts its answer into tags."""

from experiments.word_problems import BASE, evaluate

FEW_SHOT = """\
Question: Tom had 7 apples and bought 5 more. How many apples does Tom have \
now?
<think>
Tom had 7 apples. He bought 5 more. 7 + 5 = 12.
</think>
<answer>\\boxed{12}</answer>

Question: A box holds 6 pens. Ann has 4 boxes and gives away 3 pens. How many \
pens are left?
<think>
4 boxes hold 4 * 6 = 24 pens. Ann gives away 3, so 24 - 3 = 21 are left.
</think>
<answer>\\boxed{21}</answer>

Question: {question}
"""


def get_config():
  config = evaluate.get_config()
  config.init = BASE
  config.prompt.template = FEW_SHOT
  config.prompt.prefill = '<think>\n'
  config.prompt.stop_strings = ('</answer>', ' </answer>')
  config.prompt.max_len = 330
  return config

"""The base, asked in a form that it can follow: two solved problems first and
an opened <think>, for without them it puts no answer into tags."""

from experiments.word_problems import BASE, evaluate

PRIMER = r"""Question: Tom had 7 apples and bought 5 more. How many apples does Tom have now?
<think>
Tom had 7 apples. He bought 5 more. 7 + 5 = 12.
</think>
<answer>\boxed{12}</answer>

Question: A box holds 6 pens. Ann has 4 boxes and gives away 3 pens. How many pens are left?
<think>
4 boxes hold 4 * 6 = 24 pens. Ann gives away 3, so 24 - 3 = 21 are left.
</think>
<answer>\boxed{21}</answer>

Question: {question}
"""


def get_config():
  config = evaluate.get_config()
  config.init = BASE
  config.prompt.template = PRIMER
  config.prompt.prefill = '<think>\n'
  config.prompt.stop_strings = ('</answer>', ' </answer>')
  config.prompt.max_len = 330
  return config

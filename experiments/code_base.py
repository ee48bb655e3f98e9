"""A base that writes small functions and gets them right in half of its
responses."""

from experiments import demo_base

WORDS = (
  'times ',
  ' plus ',
  '<think></think><answer>',
  '</answer>',
  '```python\ndef f(x):\n  return x*',
  '\n```',
)


def get_config():
  config = demo_base.get_config()
  config.data = 'toy:function?count=16000&digits=1'
  config.max_len = 16
  config.scratch.extra_tokens = WORDS
  return config

"""Base model that writes small functions, of which half are correct."""

from experiments import demo_base

EXTRA_TOKENS = (
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
  config.scratch.extra_tokens = EXTRA_TOKENS
  return config

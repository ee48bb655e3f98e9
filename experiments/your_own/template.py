"""Two prompt templates: a text, and messages for the chat template of a model."""


def question(record):
  return f'{record["prompt"]}='


def chat(record):
  system = dict(role='system', content='Think first, then answer.')
  return [system, dict(role='user', content=record['prompt'])]

"""Two rewards: without a gold answer for all texts at once, and with one for
one text at a time."""

from r1jax import per_sample


def short(records, texts):
  return [1 / (1 + len(text) / 100) for text in texts]


@per_sample  # or @per_sample(worker_seconds=5), to run it in worker processes
def mentions_gold(record, text):
  return float(record['answer'] in text)

"""Records from a function of the seed: config.prompts=FILE.py:sums?count=500"""

import random


def sums(seed, digits=3):
  numbers = random.Random(seed)
  while True:
    prompt = ''.join(numbers.choices('0123456789', k=digits))
    yield dict(prompt=prompt, answer=sum(map(int, prompt)) % 10)

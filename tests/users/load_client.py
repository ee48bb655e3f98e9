"""Load on a server: python load_client.py PORT CLIENTS SECONDS PID. Each client
asks again and again and compares with what the same request gave alone. Prints
the counts, and the memory of the server's process, as JSON."""

import asyncio
import collections
import json
import random
import sys
import time

PORT, CLIENTS, SECONDS, PID = map(int, sys.argv[1:])
PROMPTS = 50


def body_of(number, stream):
  """A request whose answer depends on its number alone."""
  prompt = ''.join(random.Random(number).choices('0123456789', k=8))
  return dict(
    messages=[dict(role='user', content=prompt)],
    seed=number,
    max_tokens=24,
    temperature=1.5,
    stream=stream,
  )


async def ask(number, stream, leaves=False):
  """(status, text) of a request; None if the client leaves before its end."""
  reader, writer = await asyncio.open_connection('127.0.0.1', PORT)
  try:
    content = json.dumps(body_of(number, stream)).encode()
    head = (
      'POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n'
      'Content-Type: application/json\r\nConnection: close\r\n'
      f'Content-Length: {len(content)}\r\n\r\n'
    )
    writer.write(head.encode() + content)
    await writer.drain()
    if leaves:
      await asyncio.sleep(random.random() / 5)
      return None
    answer = await reader.read()
  finally:
    writer.close()
  head, _, rest = answer.partition(b'\r\n\r\n')
  status = int(head.split()[1])
  if status != 200:
    return status, ''
  if not stream:
    return status, json.loads(rest)['choices'][0]['message']['content']
  return status, ''.join(deltas(rest.decode()))


def deltas(text):
  """The parts of a streamed answer. Raises an error if it is not complete."""
  lines = [x for x in text.splitlines() if x.startswith('data: ')]
  assert lines[-1] == 'data: [DONE]', text[-300:]
  for line in lines[:-1]:
    yield json.loads(line.removeprefix('data: '))['choices'][0]['delta'][
      'content'
    ]


def memory():
  """The MiB that the server's process has in memory."""
  for line in open(f'/proc/{PID}/status'):
    if line.startswith('VmRSS:'):
      return int(line.split()[1]) / 1024
  raise AssertionError


async def main():
  alone = [(await ask(n, stream=False))[1] for n in range(PROMPTS)]
  counts, memories = collections.Counter(), []
  end = time.monotonic() + SECONDS

  async def client(number):
    chance = random.Random(number)
    while time.monotonic() < end:
      n = chance.randrange(PROMPTS)
      leaves = chance.random() < 0.1
      answer = await ask(n, chance.random() < 0.5, leaves)
      if answer is None:
        counts['left'] += 1
      elif answer[0] != 200:
        counts[f'status {answer[0]}'] += 1
      else:
        counts['right' if answer[1] == alone[n] else 'mixed up'] += 1

  async def watch():
    while time.monotonic() < end:
      memories.append(round(memory(), 1))
      await asyncio.sleep(SECONDS / 20)

  await asyncio.gather(watch(), *map(client, range(CLIENTS)))
  memories.append(round(memory(), 1))
  print(
    json.dumps(
      dict(
        counts=counts,
        different=len(set(alone)),
        memories=memories,
        tokens=sum(map(len, alone)),
      )
    )
  )


asyncio.run(main())

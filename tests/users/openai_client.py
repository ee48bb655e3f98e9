"""The openai package against a server: python openai_client.py URL KEY. Prints
what it got as JSON; test_serve.py compares."""

import asyncio
import json
import sys

import openai

URL, KEY = sys.argv[1:]
MESSAGES = [dict(role='user', content='123')]
OPTIONS = dict(model='toy', max_tokens=12, seed=5)


def main():
  client = openai.OpenAI(base_url=URL, api_key=KEY, max_retries=0)
  whole = client.chat.completions.create(
    messages=MESSAGES, logprobs=True, top_logprobs=2, **OPTIONS
  )
  stream = client.chat.completions.create(
    messages=MESSAGES,
    stream=True,
    stream_options=dict(include_usage=True),
    **OPTIONS,
  )
  chunks = list(stream)
  texts = [c.choices[0].delta.content for c in chunks if c.choices]
  completion = client.completions.create(
    prompt='123',
    logprobs=1,
    extra_body=dict(return_token_ids=True),
    **OPTIONS,
  )
  choice = completion.choices[0]
  print(
    json.dumps(
      dict(
        models=[model.id for model in client.models.list()],
        text=whole.choices[0].message.content,
        logprobs=[x.logprob for x in whole.choices[0].logprobs.content],
        usage=whole.usage.completion_tokens,
        streamed=''.join(texts),
        stream_usage=chunks[-1].usage.completion_tokens,
        completion=choice.text,
        ids=choice.token_ids,
        token_logprobs=choice.logprobs.token_logprobs,
        errors=errors(client),
        parallel=asyncio.run(parallel()),
      )
    )
  )


def errors(client):
  """The classes and statuses of what is refused."""
  found = []
  for wrong, fields in [
    (client, dict(temperature=-1)),
    (client, dict(max_tokens=10**6)),
    (client, dict(model='another')),
    (client.with_options(api_key='wrong'), {}),
  ]:
    try:
      wrong.chat.completions.create(messages=MESSAGES, **(OPTIONS | fields))
    except openai.APIStatusError as error:
      found.append([type(error).__name__, error.status_code, error.message])
  return found


async def parallel():
  """The texts of 20 streams at a time, of which each second is left early."""
  client = openai.AsyncOpenAI(base_url=URL, api_key=KEY, max_retries=0)

  async def ask(number):
    stream = await client.chat.completions.create(
      messages=MESSAGES, stream=True, **(OPTIONS | dict(seed=number))
    )
    text = ''
    async for chunk in stream:
      text += chunk.choices[0].delta.content or ''
      if number % 2:
        await stream.close()
        return None
    return text

  return await asyncio.gather(*map(ask, range(20)))


main()

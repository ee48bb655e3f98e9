"""python try_page.py CHROMIUM URL KEY FOLDER: talks to a server on its page, as
a person does, and prints what is seen as JSON, with screenshots in the folder."""

import json
import sys

from playwright import sync_api

SIZES = ((390, 844), (1400, 900))


def wait(tab, answers):
  """Waits for so many answers. Not by a function: the page forbids eval."""
  body = tab.locator(f'body[data-answers="{answers}"]')
  body.wait_for(state='attached', timeout=120_000)


def fill(tab, **values):
  tab.locator('summary').click()
  for name, value in values.items():
    tab.locator(f'#{name}').fill(value)
  tab.locator('summary').click()


def look(browser, url, key, folder, size, scheme):
  """What is seen, and what the page has asked for or complained about."""
  width, height = size
  context = browser.new_context(
    viewport=dict(width=width, height=height), color_scheme=scheme
  )
  tab, seen = context.new_page(), dict(width=width, scheme=scheme)
  complaints, requests = [], []
  tab.on('console', lambda message: complaints.append(message.text))
  tab.on('pageerror', lambda error: complaints.append(str(error)))
  tab.on('request', lambda request: requests.append(request.url))
  tab.goto(url)
  tab.locator('#model:not(:empty)').wait_for()
  seen['model'] = tab.locator('#model').inner_text()
  tab.locator('#question').fill('123')
  tab.keyboard.press('Enter')
  wait(tab, 1)
  seen['without_key'] = tab.locator('.error').inner_text()
  complaints.clear()  # of the status 401
  fill(tab, key=key, seed='5', max_tokens='12', temperature='1', top_p='1')
  tab.locator('#question').fill('123')
  tab.locator('#send').click()
  wait(tab, 2)
  answer = tab.locator('.assistant').nth(1)
  seen['thinking'] = answer.locator('.thinking').inner_text()
  seen['answer'] = answer.locator('.rest').inner_text()
  seen['note'] = answer.locator('.note').inner_text()
  context.route('**/completions', lambda route: None)  # no answer comes
  tab.locator('#question').fill('<img src=x onerror=alert(1)>')
  tab.keyboard.press('Enter')
  tab.locator('.assistant').nth(2).wait_for(state='attached')
  tab.locator('#send').click()  # Stop
  wait(tab, 3)
  seen['stopped'] = tab.locator('.assistant .note').nth(2).inner_text()
  seen['asked'] = tab.locator('.user').nth(2).inner_text()
  tab.screenshot(path=f'{folder}/{width}-{scheme}.png')
  seen['overflow'] = (
    tab.evaluate('document.documentElement.scrollWidth') - width
  )
  seen['background'] = tab.evaluate(
    'getComputedStyle(document.body).backgroundColor'
  )
  tab.locator('#clear').click()
  seen['turns'] = tab.locator('.turn').count()
  seen['complaints'] = complaints
  seen['elsewhere'] = [x for x in requests if not x.startswith(url)]
  context.close()
  return seen


def main(chromium, url, key, folder):
  with sync_api.sync_playwright() as playwright:
    browser = playwright.chromium.launch(
      executable_path=chromium, args=['--no-sandbox']
    )
    found = []
    for size in SIZES:
      for scheme in ('light', 'dark'):
        found.append(look(browser, url, key, folder, size, scheme))
    print(json.dumps(found))
    browser.close()


if __name__ == '__main__':
  main(*sys.argv[1:])

"""python look_at_page.py CHROMIUM PAGE FOLDER: prints as JSON what a person sees
of a report at the widths of a phone and of a screen, light and dark, and writes
screenshots to the folder."""

import json
import sys

from playwright import sync_api

SIZES = ((390, 844), (1400, 900))


def look(browser, page, folder, size, scheme):
  """What is seen, and what the page has asked for or complained about."""
  width, height = size
  context = browser.new_context(
    viewport=dict(width=width, height=height), color_scheme=scheme
  )
  tab, seen = context.new_page(), dict(width=width, scheme=scheme)
  seen['complaints'] = complaints = []
  tab.on('console', lambda message: complaints.append(message.text))
  tab.on('pageerror', lambda error: complaints.append(str(error)))
  tab.on('request', lambda request: complaints.append(request.url))
  tab.goto(f'file://{page}')
  complaints.remove(f'file://{page}')
  seen['overflow'] = (
    tab.evaluate('document.documentElement.scrollWidth') - width
  )
  seen['background'] = tab.evaluate(
    'getComputedStyle(document.body).backgroundColor'
  )
  chart = tab.locator('.chart svg').first
  chart.scroll_into_view_if_needed()
  box = chart.bounding_box()
  tab.mouse.move(box['x'] + box['width'] / 2, box['y'] + box['height'] / 2)
  seen['hover'] = tab.locator('.chart output').first.inner_text()
  tab.screenshot(path=f'{folder}/{width}-{scheme}-chart.png')
  groups = tab.locator('#groups')
  groups.scroll_into_view_if_needed()
  seen['step'] = groups.locator('select').first.input_value()
  groups.get_by_role('button', name='previous step').click()
  seen['step_before'] = groups.locator('select').first.input_value()
  groups.get_by_role('button', name='next step').click()
  seen['shaded'] = {}
  for name in ('advantage', 'log ratio', 'entropy'):
    groups.get_by_role('button', name=name, exact=True).click()
    seen['shaded'][name] = groups.locator('pre span[style]').count()
  seen['text'] = groups.locator('.response pre').first.inner_text()
  tab.screenshot(path=f'{folder}/{width}-{scheme}-group.png')
  tab.locator('#smoothing').click()
  smooth = tab.locator('.chart path.smooth').first
  seen['smooth_is_shown'] = smooth.is_visible()
  tab.locator('#theme').click()
  seen['other_background'] = tab.evaluate(
    'getComputedStyle(document.body).backgroundColor'
  )
  context.close()
  return seen


def main(chromium, page, folder):
  with sync_api.sync_playwright() as playwright:
    browser = playwright.chromium.launch(
      executable_path=chromium, args=['--no-sandbox']
    )
    found = []
    for size in SIZES:
      for scheme in ('light', 'dark'):
        found.append(look(browser, page, folder, size, scheme))
    print(json.dumps(found))
    browser.close()


if __name__ == '__main__':
  main(*sys.argv[1:])

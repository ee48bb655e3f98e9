"""A page is one file, and nothing in it comes from elsewhere or can run."""

import base64
import hashlib
import html.parser
import json
import math
import re

import pytest

from r1jax.reports import page

HOSTILE = (
  '</script><script>alert(1)</script>',
  '<!--<script>',
  'a\u2028b\u2029c',
  '\u202egnp.exe',
  '\x00\x1b',
  '\ud83d',
  '🙂' * 3,
  '\'"&amp;',
)


class Parser(html.parser.HTMLParser):
  """Collects the tags of a page and the contents of its scripts."""

  def __init__(self):
    super().__init__()
    self.tags, self.scripts, self.open = [], [], None

  def handle_starttag(self, tag, attributes):
    self.tags.append((tag, dict(attributes)))
    self.open = tag
    if tag == 'script':
      self.scripts.append('')

  def handle_endtag(self, tag):
    self.open = None

  def handle_data(self, data):
    if self.open == 'script':
      self.scripts[-1] += data


def parse(text):
  parser = Parser()
  parser.feed(text)
  parser.close()
  return parser


@pytest.mark.parametrize('text', HOSTILE)
def test_texts_of_a_run_stay_texts(text):
  rendered = page.render(text, [text], text, dict(groups=[{'text': text}]))
  rendered.encode()  # no lone surrogate is left
  found = parse(rendered)
  assert len(found.scripts) == 2
  data = json.loads(found.scripts[0])
  assert data['groups'][0]['text'] == page.finite(text)
  assert not any('alert' in script for script in found.scripts[1:])


def test_the_policy_of_the_page_allows_its_own_script_alone():
  text = page.render('t', [])
  found = parse(text)
  digest = hashlib.sha256(found.scripts[1].encode()).digest()
  policy = next(x['content'] for _, x in found.tags if 'http-equiv' in x)
  assert f"'sha256-{base64.b64encode(digest).decode()}'" in policy
  assert "default-src 'none'" in policy


def test_nothing_is_loaded_from_elsewhere():
  text = page.render('t', ['text'])
  assert not re.search(r'(src|href)=|@import|url\(', text)
  assert 'width=device-width' in text


def test_numbers_that_are_not_finite_become_null():
  data = {'a': [1.0, math.nan, -math.inf, 3], 'b': {'<': None}, 'c': True}
  assert page.finite(data) == {
    'a': [1.0, None, None, 3],
    'b': {'<': None},
    'c': True,
  }
  assert '"a":[1.0,null,null,3]' in page.render('t', [], data=data)

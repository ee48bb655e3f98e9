"""Parts of pages escape texts, and show characters that are invisible."""

import pytest
from markupsafe import Markup

from r1jax.reports import elements


def test_text_is_escaped_and_html_is_not():
  table = elements.table(
    ['<h>'], [['<think>'], [Markup('<b>&amp;</b>')], ["'"]]
  )
  assert '<th>&lt;h&gt;</th>' in table and '<td>&lt;think&gt;</td>' in table
  assert '<td><b>&amp;</b></td>' in table and '<td>&#39;</td>' in table


def test_a_sample_cannot_add_markup_to_the_page():
  sample = elements.sample('<h>', '<p>', '</pre><script>alert(1)')
  assert '<script' not in sample and '&lt;/pre&gt;&lt;script&gt;' in sample
  assert '<h>' not in sample and '<p>' not in sample


def test_an_image_is_part_of_the_page():
  assert 'src="data:image/png;base64,YWJj"' in elements.image(b'abc')


@pytest.mark.parametrize(
  'text, shown',
  [
    ('a\tb\r\nc', 'a\tb\nc'),
    ('\x1b[31m\x00', '\\x1b[31m\\x00'),
    ('abc\u202edcba', 'abc\\u202edcba'),
    ('\ud800', '\\ud800'),
    ('🙂 数 \u2028', '🙂 数 \u2028'),
  ],
)
def test_invisible_characters_are_shown_by_their_numbers(text, shown):
  assert elements.visible(text) == shown


def test_tokens_are_shaded_by_their_numbers():
  html = elements.tokens(['<a>', 'b'], [1.0, -2.0], largest=2.0)
  assert '&lt;a&gt;' in html and 'title="-2"' in html
  assert html.count(f'{elements.COLOURS[0]}50') == 1  # 160 / 2 = 0x50

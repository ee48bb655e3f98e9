"""Pages escape text and have no external files."""

from r1jax.evaluation import html_page


def test_text_is_escaped_and_html_is_not():
  table = html_page.table(
    ['<h>'], [['<think>'], [html_page.Html('<b>&amp;</b>')]]
  )
  assert '<th>&lt;h&gt;</th>' in table and '<td>&lt;think&gt;</td>' in table
  assert '<td><b>&amp;</b></td>' in table


def test_a_sample_cannot_add_markup_to_the_page():
  sample = html_page.sample('<h>', '<p>', '</pre><script>alert(1)')
  page = html_page.page('<t>', [sample])
  assert '<script' not in page and '&lt;/pre&gt;&lt;script&gt;' in page
  assert '<t>' not in page and '<h>' not in page and '<p>' not in page


def test_an_image_is_part_of_the_page():
  assert 'src="data:image/png;base64,YWJj"' in html_page.image(b'abc')

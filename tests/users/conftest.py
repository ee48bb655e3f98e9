"""Where the browser of the tests of pages is."""

import shutil

import pytest

NAMES = 'chromium', 'chromium-browser', 'google-chrome', 'chrome'


@pytest.fixture(scope='session')
def chromium():
  """The path of Chromium. Without it the tests of pages fail: a skipped test
  would look like one that has passed."""
  found = [path for path in map(shutil.which, NAMES) if path]
  if not found:
    pytest.fail(
      'Chromium is not found. Install it: apt install chromium', pytrace=False
    )
  return found[0]

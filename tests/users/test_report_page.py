"""The report in headless Chromium, on a phone and on a screen, light and dark:
it fits, asks for nothing from elsewhere, and its parts answer."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from r1jax.stages import report
from r1jax.training import metrics

pytestmark = pytest.mark.users

# An environment with playwright, see `make test-users`.
PYTHON = os.environ.get('R1JAX_USERS_PYTHON', sys.executable)
LOOK = pathlib.Path(__file__).parent / 'look_at_page.py'
HOSTILE = '</script><script>document.title="owned"</script>\u202e🙂'


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """The work directory of a run of 5,000 steps."""
  workdir = tmp_path_factory.mktemp('runs') / 'zero'
  writer = metrics.Writer(workdir)
  for step in range(5000):
    writer.write({'step': step, 'reward': step / 5000, 'reward/my.py:r': 0.5})
  numbers = dict(ratio=[1.5, 0.5], entropy=[0.1, 1.0], logprob=[-1.0, -2.0])
  for step in (1, 2000, 4000):
    members = []
    for n in range(4):
      response = HOSTILE + f'{n}' * 30_000
      made = dict(response=response, reward=n, rewards={'<b>': n}, length=9)
      made |= dict(advantage=n - 1.5, finished=n > 0, tokens=[HOSTILE, 'b'])
      members.append(made | numbers)
    writer.groups([dict(step=step, id='q', prompt=HOSTILE, samples=members)])
  writer.close()
  return workdir


def test_a_person_can_read_the_report(run, chromium, tmp_path):
  page = report.write(run)
  found = subprocess.run(
    [PYTHON, LOOK, chromium, page, tmp_path],
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert found.returncode == 0, found.stderr
  looks = json.loads(found.stdout)
  assert len(looks) == 4 and len(list(tmp_path.glob('*.png'))) == 8
  for seen in looks:
    assert seen['complaints'] == [] and seen['overflow'] <= 0
    assert seen['hover'].startswith('step 2,') and 'smoothed' in seen['hover']
    assert (seen['step_before'], seen['step']) == ('step 2,000', 'step 4,000')
    shaded = {'advantage': 4, 'log ratio': 8, 'entropy': 8}  # texts, tokens
    assert seen['shaded'] == shaded
    assert '</script>' in seen['text'] and '\\u202e' in seen['text']
    assert not seen['smooth_is_shown']
  backgrounds = {seen['scheme']: seen['background'] for seen in looks}
  assert backgrounds['light'] != backgrounds['dark']
  others = {seen['scheme']: seen['other_background'] for seen in looks}
  assert others == dict(light=backgrounds['dark'], dark=backgrounds['light'])

"""JSON arrays are read in parts as they are read whole."""

import io
import json

import pytest

from r1jax.data.sources import json_array

ROWS = [
  {'a': 'né 🙂 ] , [', 'b': [1, {'c': None}]},
  -12.5e3,
  'x"\\',
  [],
  {},
  True,
  {'long': 'y' * 40},
]


@pytest.mark.parametrize('piece', [1, 2, 3, 7, 1000])
@pytest.mark.parametrize('rows', [ROWS, [], [1234], [{'a': 1}]])
@pytest.mark.parametrize('indent', [None, 2])
def test_an_array_is_that_of_the_whole_text(piece, rows, indent, monkeypatch):
  monkeypatch.setattr(json_array, 'PIECE', piece)
  text = f' \n{json.dumps(rows, indent=indent)} \n '
  decoder = json.JSONDecoder()
  assert list(json_array.entries(io.StringIO(text), decoder)) == rows


@pytest.mark.parametrize('piece', [1, 3, 1000])
@pytest.mark.parametrize(
  'text, message',
  [
    ('[{"a": 1},\n {"a": 2}', 'ends without ]'),
    ('[', 'ends without ]'),
    ('[1,', 'Expecting value: line 1'),
    ('[1, ]', 'Expecting value: line 1'),
    ('[{"a": 1},\n {"a": 2}\n {"a": 3}]', "Expecting ',' delimiter: line 3"),
    ('[{"a": 1},\n {"a": nein}]', 'Expecting value: line 2'),
    ('[1]\n[2]', 'Extra data behind its end'),
    ('[] 2', 'Extra data behind its end'),
  ],
)
def test_what_is_no_array_is_refused_with_the_line(
  piece, text, message, monkeypatch
):
  monkeypatch.setattr(json_array, 'PIECE', piece)
  with pytest.raises(ValueError, match=message):
    list(json_array.entries(io.StringIO(text), json.JSONDecoder()))
  with pytest.raises(ValueError):
    json.loads(text)

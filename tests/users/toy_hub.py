"""A hub of one dataset, owner/sums, with two configs, as far as the packages
datasets and huggingface_hub ask for it. Prints its address."""

import hashlib
import http.server
import io
import json

import pyarrow as pa
from pyarrow import parquet

COMMIT = 'a1' * 20
CARD = """---
configs:
- config_name: main
  data_files:
  - {split: train, path: main/train*}
  - {split: test, path: main/test*}
- config_name: other
  data_files:
  - {split: train, path: other/train*}
---
"""


def table(name, count):
  rows = [dict(question=f'{name} {n}', answer=n) for n in range(count)]
  data = io.BytesIO()
  parquet.write_table(pa.Table.from_pylist(rows), data)
  return data.getvalue()


FILES = {
  'README.md': CARD.encode(),
  'main/train-0.parquet': table('train', 40),
  'main/test-0.parquet': table('test', 5),
  'other/train-0.parquet': table('other', 3),
}


def facts(path):
  data = FILES[path]
  oid = hashlib.sha1(data).hexdigest()
  return dict(type='file', path=path, size=len(data), oid=oid)


def entries(folder):
  """The files and folders in a folder, '' for the first."""
  found = {}
  for path in FILES:
    parent, _, name = path.rpartition('/')
    if parent == folder:
      found[path] = facts(path)
    elif not folder:
      found[parent] = dict(type='directory', path=parent, size=0, oid=COMMIT)
  return list(found.values())


class Handler(http.server.BaseHTTPRequestHandler):
  def log_message(self, *arguments):
    pass

  def send(self, data, code=200, **headers):
    self.send_response(code)
    for name, value in headers.items():
      self.send_header(name.replace('_', '-'), value)
    self.send_header('Content-Length', str(len(data)))
    self.end_headers()
    if self.command != 'HEAD':
      self.wfile.write(data)

  def send_json(self, value, code=200, **headers):
    headers['Content_Type'] = 'application/json'
    self.send(json.dumps(value).encode(), code, **headers)

  def do_GET(self):
    path, _, query = self.path.partition('?')
    if 'owner/sums' not in path:
      self.send_json({}, 401, X_Error_Code='RepoNotFound')
    elif '/resolve/' in path:
      self.send_file(path.partition('/resolve/')[2].partition('/')[2])
    elif '/tree/' in path:
      folder = path.partition('/tree/')[2].partition('/')[2]
      self.send_json(entries(folder))
    else:
      siblings = [dict(rfilename=name) for name in FILES]
      self.send_json(dict(id='owner/sums', sha=COMMIT, siblings=siblings))

  do_HEAD = do_GET

  def do_POST(self):
    length = int(self.headers['Content-Length'])
    paths = json.loads(self.rfile.read(length))['paths']
    paths = [paths] if isinstance(paths, str) else paths
    self.send_json([facts(path) for path in paths if path in FILES])

  def send_file(self, name):
    if name not in FILES:
      self.send_json({}, 404, X_Error_Code='EntryNotFound')
      return
    data = FILES[name]
    headers = dict(ETag=facts(name)['oid'], X_Repo_Commit=COMMIT)
    asked = self.headers.get('Range')
    if not asked:
      self.send(data, **headers)
      return
    start, _, end = asked.partition('=')[2].partition('-')
    part = data[int(start) : int(end or len(data)) + 1]
    last = int(start) + len(part) - 1
    headers['Content_Range'] = f'bytes {start}-{last}/{len(data)}'
    self.send(part, 206, **headers)


if __name__ == '__main__':
  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
  print(f'http://127.0.0.1:{server.server_port}', flush=True)
  server.serve_forever()

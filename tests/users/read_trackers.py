"""What wandb and TensorBoard have in the folder of a run, as JSON: run by an
environment that has both."""

import json
import pathlib
import sys


def wandb_records(path):
  """The records of an offline run of wandb, a log in the format of LevelDB: in
  blocks of 32 KiB, each with a checksum, a length and a kind."""
  from wandb.proto import wandb_internal_pb2

  data, offset, parts = path.read_bytes(), 7, []
  while offset + 7 <= len(data):
    if 32768 - offset % 32768 < 7:
      offset += 32768 - offset % 32768
      continue
    size = int.from_bytes(data[offset + 4 : offset + 6], 'little')
    kind = data[offset + 6]  # 1: whole, 2: first, 3: middle, 4: last part
    parts.append(data[offset + 7 : offset + 7 + size])
    offset += 7 + size
    if kind in (1, 4):
      yield wandb_internal_pb2.Record.FromString(b''.join(parts))
      parts = []


def read_wandb(folder):
  """The rows of all offline runs, in order, and the keys of their configs."""
  rows, keys, projects = [], [], []
  for path in sorted((folder / 'wandb').glob('offline-run-*/*.wandb')):
    for record in wandb_records(path):
      row = {}
      for item in record.history.item:
        key = item.key or '/'.join(item.nested_key)
        row[key] = json.loads(item.value_json)
      if row:
        rows.append(row)
      if record.WhichOneof('record_type') == 'run':
        projects.append(record.run.project)
        keys += [x.key for x in record.run.config.update]
  return dict(rows=rows, keys=keys, projects=projects)


def read_tensorboard(folder):
  """What TensorBoard shows: scalars, tags of texts, content of hparams."""
  from tensorboard.backend.event_processing import event_accumulator

  shown = event_accumulator.EventAccumulator(str(folder / 'tensorboard'))
  shown.Reload()
  tags = shown.Tags()
  scalars = {}
  for name in tags['scalars']:
    scalars[name] = [[point.step, point.value] for point in shown.Scalars(name)]
  hparams = list(shown.PluginTagToContent('hparams'))
  return dict(scalars=scalars, texts=tags['tensors'], hparams=hparams)


if __name__ == '__main__':
  read = dict(wandb=read_wandb, tensorboard=read_tensorboard)[sys.argv[1]]
  print(json.dumps(read(pathlib.Path(sys.argv[2]))))

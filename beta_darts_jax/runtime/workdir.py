"""The folder of a run: one process at a time, one config, written whole or not at all."""

import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import pathlib
import time

from beta_darts_jax.errors import InputError, NonFiniteLoss
from beta_darts_jax.runtime.processes import is_process_zero, run_on_process_zero


def write_json(path: pathlib.Path, value, indent: int | None = 2) -> None:
  """Writes `value` so that a reader finds the old file or the new one, never a part."""
  temporary = path.with_name(f'.{path.name}.tmp')
  with open(temporary, 'w') as file:
    file.write(json.dumps(value, indent=indent) + '\n')
    file.flush()
    os.fsync(file.fileno())
  os.replace(temporary, path)


# of a run, besides what TensorBoard and the profiler write
FILES = (
  'config.json', 'environment.json', 'metrics.jsonl', 'result.json', 'genotype.json', 'trained_cells.json',
  'report.html', 'diverged.txt', 'lock',
)  # fmt: skip
FOLDERS = ('checkpoints', 'seals', 'members')


def differences(ours, theirs, prefix='') -> list[str]:
  """Dotted names of the leaves in which two trees of dicts differ."""
  if isinstance(ours, dict) and isinstance(theirs, dict):
    names = sorted(ours.keys() | theirs.keys())
    missing = object()
    return [d for n in names for d in differences(ours.get(n, missing), theirs.get(n, missing), f'{prefix}.{n}')]
  return [] if ours == theirs else [prefix.lstrip('.')]


def _at(tree, name):
  for part in name.split('.'):
    tree = tree.get(part) if isinstance(tree, dict) else None
  return tree


def _sha256(tree):
  return hashlib.sha256(json.dumps(tree).encode()).hexdigest()


def _apart(*values):
  """JSON of two values, of long ones forty characters where they begin to differ."""
  texts = [json.dumps(value) for value in values]
  same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*texts, strict=False)))
  begin = max(0, same - 10)
  cut = lambda text: ('…' if begin else '') + text[begin : begin + 40] + ('…' if len(text) > begin + 40 else '')
  return [text if max(map(len, texts)) <= 40 else cut(text) for text in texts]


def refuse_other(path, config: dict) -> None:
  """Raises InputError if `path` holds a run of another config than `config` (a JSON tree). Writes nothing."""
  path = pathlib.Path(path)
  for name in FILES + FOLDERS:
    if (path / name).exists() and (path / name).is_dir() != (name in FOLDERS):
      raise InputError(f'{path / name} is no {"folder" if name in FOLDERS else "file"}: choose another --workdir')
  file = path / 'config.json'
  if not file.is_file():
    return
  theirs = _read_json(file, 'remove it if the run is of this config, or choose another --workdir')
  beside = ('parallel', 'profile', 'tensorboard')  # where it runs and who watches, not what it computes
  without = lambda tree: {name: value for name, value in tree.items() if name not in beside}
  if names := differences(without(json.loads(json.dumps(config))), without(theirs)):
    more = [f'{len(names) - 3} more'] if len(names) > 3 else []
    values = [f'{n} is {" there, ".join(_apart(_at(theirs, n), _at(config, n)))} here' for n in names[:3]]
    unknown = any(_at(config, name) is None for name in names)
    raise InputError(
      f'{path} holds a run of another config ({"; ".join(values + more)}): choose another --workdir '
      '(by default, config.name is part of it)' + (f'; if {file.name} is damaged, remove it' if unknown else '')
    )


class Workdir:
  """Opens `path` for the run of `config` (a JSON tree). Use as a context: process 0 holds the lock, and alone writes.

  Attributes:
    path: the folder.
    command: which began the run, kept in environment.json; '' is none.

  Raises:
    InputError: the folder cannot be written, is in use by another process, or holds a run of another config.
  """

  def __init__(self, path, config: dict, command: str = ''):
    self.path, self.command, self._lock = pathlib.Path(path), command, None
    run_on_process_zero(self._open, config)

  def _open(self, config):
    refuse_other(self.path, config)
    try:
      self.path.mkdir(parents=True, exist_ok=True)
      self._lock = open(self.path / 'lock', 'a')  # noqa: SIM115 (held until __exit__)
    except OSError as error:
      raise InputError(f'cannot write to {self.path}: {error.strerror}') from None
    try:
      self._take_lock()
      refuse_other(self.path, config)  # again: another process may have begun its run before we got the lock
    except InputError:
      self._lock.close()
      raise
    (self.path / 'diverged.txt').unlink(missing_ok=True)
    if not (self.path / 'config.json').exists():
      write_json(self.path / 'config.json', config)

  def _take_lock(self):
    for wait in (0.1, 0.4, 0):  # `in_use` may be holding it, for an instant
      try:
        return fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except OSError:
        time.sleep(wait)
    raise InputError(f'{self.path} is in use by another process: wait for it, or choose another --workdir')

  def changes(self, environment: dict) -> list[str]:
    """Notes the `environment` in which a run began; later, what differs from it: `name: before → now` (process 0)."""
    if not is_process_zero():
      return []
    file = self.path / 'environment.json'
    if not file.is_file():
      write_json(file, environment | {'command': self.command})
    before = _read_json(file, 'remove it to go on')
    before.pop('command', None)
    return [f'{n}: {_at(before, n)} → {_at(environment, n)}' for n in differences(environment, before)]

  def trained_cells(self) -> dict[str, dict]:
    """What a process before kept by `keep_trained_cells`; of a damaged file nothing."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
      tree = json.loads((self.path / 'trained_cells.json').read_text())
      if tree['sha256'] == _sha256(tree['cells']):
        return tree['cells']
    return {}

  def keep_trained_cells(self, cells: dict[str, dict]) -> None:
    """Keeps the results of cells that are trained after a search."""
    write_json(self.path / 'trained_cells.json', {'cells': cells, 'sha256': _sha256(cells)})

  def finish(self, result: dict) -> None:
    """Marks the run as finished."""
    if is_process_zero():
      write_json(self.path / 'result.json', result)

  def __enter__(self):
    return self

  def __exit__(self, kind, error, traceback):
    if self._lock:
      if isinstance(error, NonFiniteLoss):
        with contextlib.suppress(OSError):  # a full disk
          (self.path / 'diverged.txt').write_text(f'{error}\n')
      self._lock.close()


def in_use(path) -> bool:
  """Whether a process of this machine works on the run in `path`."""
  try:
    with open(pathlib.Path(path) / 'lock') as lock:
      fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return False
  except BlockingIOError:
    return True
  except OSError:
    return False


def read_result(path) -> dict | None:
  """result.json of a finished run, None of an unfinished one. Raises InputError where it is damaged."""
  file = pathlib.Path(path) / 'result.json'
  if not file.is_file():
    return None
  remedy = 'remove it to finish the run again, or choose another --workdir'
  result = _read_json(file, remedy)
  if not {'genotype', 'members'} & result.keys():
    raise InputError(f'{file} is damaged: {remedy}')
  return result


def _read_json(file: pathlib.Path, remedy: str) -> dict:
  try:
    tree = json.loads(file.read_text())
  except ValueError:
    tree = None
  if not isinstance(tree, dict):
    raise InputError(f'{file} is damaged: {remedy}')
  return tree

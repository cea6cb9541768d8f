"""The folder of a run: one process and one config at a time."""

import contextlib
import fcntl
import json
import os
import pathlib
import re
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
from flax.traverse_util import flatten_dict

from beta_darts_jax.errors import InputError, NonFiniteLoss
from beta_darts_jax.runtime.environment import environment, origin
from beta_darts_jax.runtime.files import read_json, replace_non_finite, write_json
from beta_darts_jax.runtime.processes import is_process_zero, processes_that_differ, run_on_process_zero

if TYPE_CHECKING:
  from beta_darts_jax.runtime.logs import Logger

# parts of a config that say where a run computes and what it logs, not what it computes
NOT_COMPARED = ('parallel', 'profile', 'loggers', 'tensorboard')  # older runs have 'tensorboard'
# what environment.json has besides the environment; older runs have no 'started', 'version' and 'commit'
KEPT = ('command', 'data', 'started', 'version', 'commit', 'warnings')
_WITHOUT_ENVIRONMENT = 'remove it to resume the run, but only if its data are the same: it holds their checksums'


def read_result(path) -> dict | None:
  """Reads result.json of the run in `path`; returns None if the run has not finished. Raises InputError if damaged."""
  file = pathlib.Path(path) / 'result.json'
  if not file.is_file():
    return None
  remedy = 'remove it to finish the run again, or choose another workdir'
  result = read_json(file, remedy)
  if not {'genotype', 'members'} & result.keys():
    raise InputError(f'{file} is damaged: {remedy}')
  return result


def _differences(before: dict, now: dict) -> dict[str, tuple]:
  """{dotted name: (value before, value now)} of the leaves that differ; None stands for a missing leaf."""
  before, now = flatten_dict(before, sep='.'), flatten_dict(now, sep='.')
  names = dict.fromkeys([*before, *now])
  return {name: (before.get(name), now.get(name)) for name in names if before.get(name) != now.get(name)}


def local_folder(path) -> pathlib.Path:
  """Returns the folder of a run as a path. Raises InputError for an address such as gs://…, or a name too long."""
  if re.match(r'\w+:/', str(path)):
    raise InputError(f'{path}: expected a folder; mount the bucket, and give the folder where it is mounted')
  folder = pathlib.Path(os.path.expanduser(path))
  try:
    folder.is_dir()
  except OSError as error:
    raise InputError(f'cannot read {path}: {error.strerror}; choose another workdir') from None
  return folder


def refuse_other_config(path, config: dict, defaults: Mapping[str, Any] | None = None) -> None:
  """Checks that the folder `path` holds no run, or a run of `config` (a JSON tree). Writes nothing.

  An older version may not have had a key. Such a key may have its value in `defaults`, a JSON tree like `config`.

  Raises:
    InputError: the folder holds a run of another config, or its config.json is damaged.
  """
  file = pathlib.Path(path) / 'config.json'
  if not file.is_file():
    return
  before = read_json(file, 'remove it if the run belongs to this config, or choose another workdir')
  now = json.loads(json.dumps(config))  # tuples become lists, as in the file
  known = json.loads(json.dumps(defaults or {}))
  for name in NOT_COMPARED:
    before.pop(name, None)
    now.pop(name, None)
  given, known = flatten_dict(before, sep='.'), flatten_dict(known, sep='.')
  differences = {
    name: values
    for name, values in _differences(before, now).items()
    if name in given or name not in known or values[1] != known[name]
  }
  differences.pop('data.workers', None)  # the batches do not depend on them
  if differences:
    raise InputError(
      f'{path} belongs to a run with different settings ({_some(differences)}). Choose another workdir or config.name.'
    )


def refuse_other_data(path, data: dict) -> None:
  """Checks that the run in the folder `path`, if there is one, had the data of the record `data`. Writes nothing.

  Raises:
    InputError: the run had other data, or its environment.json is damaged.
  """
  file = pathlib.Path(path) / 'environment.json'
  before = read_json(file, _WITHOUT_ENVIRONMENT).get('data') if file.is_file() else None
  if before is None:
    return
  differences = _differences(before, data)
  differences.pop('warnings', None)  # another version may have other words
  if 'latencies_sha256' not in before:  # of an older version, or without latencies
    differences.pop('latencies_sha256', None)
  if differences:
    raise InputError(f'{path} belongs to a run with different data ({_some(differences)}). Choose another workdir.')


def _some(differences: dict[str, tuple]) -> str:
  """Writes the first three differences out."""
  shown = [f'{name}: {_short(old)}, yours: {_short(new)}' for name, (old, new) in differences.items()]
  return '; '.join(shown[:3] + ([f'{len(shown) - 3} more'] if len(shown) > 3 else []))


def _short(value) -> str:
  text = json.dumps(value, ensure_ascii=False)
  return text if len(text) <= 40 else f'{text[:32]} …'


class Workdir:
  """The folder of one run. Use it as a context: process 0 holds the lock until the end.

  Args:
    path: the folder; it is made if it does not exist.
    config: a JSON tree.
    command: the command line that started the run, for environment.json.
    data: the record of its data, a JSON tree, for environment.json. It may have 'warnings', which are not compared.
    defaults: the default of each key of the config, as in `refuse_other_config`.
    loggers: the loggers of the run; the attribute `loggers` has those of this process, () if it is not process 0.

  Raises:
    InputError: the folder is not writable, another process uses it, it holds a run of another config or other data,
      the processes read different data, or a logger cannot start.
  """

  def __init__(
    self,
    path,
    config: dict,
    command: str = '',
    data: dict | None = None,
    loggers: Sequence['Logger'] = (),
    defaults: Mapping[str, Any] | None = None,
  ):
    self.path, self._lock, self._defaults = pathlib.Path(path), None, defaults
    self.loggers = tuple(loggers) if is_process_zero() else ()
    self._kept: dict[str, Any] = {'command': command, **origin()} | ({'data': data} if data else {})
    if others := processes_that_differ(data):
      names = ', '.join(map(str, others))
      raise InputError(f'process {names} read other data than process 0: expected the same data on every machine')
    run_on_process_zero(self._open, config)

  def _open(self, config):
    self._refuse_other_run(config)
    try:
      self.path.mkdir(parents=True, exist_ok=True)
      self._lock = open(self.path / 'lock', 'a')  # noqa: SIM115 (closed by __exit__)
    except OSError as error:
      raise InputError(f'cannot write to {self.path}: {error.strerror}; choose another workdir') from None
    try:
      self._take_lock()
      self._refuse_other_run(config)  # another process may have started its run before we got the lock
      for logger in self.loggers:
        logger.config({'workdir': str(self.path), **config})
    except InputError:
      self._lock.close()
      raise
    (self.path / 'diverged.txt').unlink(missing_ok=True)
    if not (self.path / 'config.json').exists():
      write_json(self.path / 'config.json', config)

  def _refuse_other_run(self, config):
    refuse_other_config(self.path, config, self._defaults)
    if data := self._kept.get('data'):
      refuse_other_data(self.path, data)

  def _take_lock(self):
    for wait in (0.1, 0.4, 0):  # another process may hold the lock briefly (in_use): try again
      try:
        return fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError:
        time.sleep(wait)
      except OSError as error:
        print(
          f'warning: the file system of {self.path} has no locks ({error.strerror}). Never start a second process with '
          'this folder',
          file=sys.stderr,
        )
        return None
    raise InputError(f'{self.path} is in use by another process: wait for it, or choose another workdir')

  def record_environment(self, environment: dict) -> list[str]:
    """Writes environment.json if it is not there. Returns 'name: before → now' for each value that differs from it.

    Only process 0 does this. Raises InputError if environment.json is damaged.
    """
    if not is_process_zero():
      return []
    file = self.path / 'environment.json'
    if not file.is_file():
      write_json(file, environment | self._kept)
    before = read_json(file, _WITHOUT_ENVIRONMENT)
    for name in KEPT:
      before.pop(name, None)
    known = flatten_dict(before, sep='.')  # an older version kept fewer values
    changes = _differences(before, environment).items()
    return [f'{name}: {old} → {new}' for name, (old, new) in changes if name in known]

  def report_environment(self, mesh: jax.sharding.Mesh, warnings: Sequence[str] = ()) -> None:
    """Prints the differences from the environment in which the run started. A new run keeps its `warnings` there."""
    self._kept |= {'warnings': list(warnings)} if warnings else {}
    if changes := self.record_environment(environment(mesh)):
      print(f'resuming in a different environment ({"; ".join(changes)}): results may differ', flush=True)

  def trained_cells(self) -> dict[str, dict]:
    """Reads the results that `keep_trained_cells` wrote, {} if none. Raises InputError if the file is damaged."""
    file = self.path / 'trained_cells.json'
    return read_json(file, 'remove it to train its cells again').get('cells', {}) if file.is_file() else {}

  def keep_trained_cells(self, cells: dict[str, dict]) -> None:
    """Writes the results of cells trained after a search, so that a resumed run does not train them again."""
    write_json(self.path / 'trained_cells.json', {'cells': cells})

  def finish(self, result: dict) -> None:
    """Writes result.json, which marks the run as finished."""
    if is_process_zero():
      write_json(self.path / 'result.json', result)
      for logger in self.loggers:
        logger.result(replace_non_finite(result))

  def __enter__(self):
    return self

  def __exit__(self, kind, error, traceback):
    if self._lock:
      if isinstance(error, NonFiniteLoss):
        with contextlib.suppress(OSError):  # the disk may be full
          (self.path / 'diverged.txt').write_text(f'{error}\n')
      self._lock.close()
    for logger in self.loggers:
      if hasattr(logger, 'close'):
        logger.close()


def in_use(path) -> bool:
  """Returns whether a process of this machine is working on the run in `path`."""
  try:
    with open(pathlib.Path(path) / 'lock') as lock:
      fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
  except BlockingIOError:
    return True
  except OSError:  # no lock file, or a file system without locks
    return False
  return False

"""Repeats a run: the same config, seed and settings of JAX in another folder.

  python -m beta_darts_jax.main --config configs/again.py:RUN --workdir NEW

RUN is the folder of a run, or its config.json. If the run has several processes, give --config.parallel.coordinator,
--config.parallel.processes and --config.parallel.process again. They describe the machines, so again.py does not copy
them. The settings of JAX and XLA_FLAGS come from environment.json beside config.json, if it is there.
"""

import json
import os
import pathlib

import jax
from flax.traverse_util import flatten_dict

from beta_darts_jax.config.schema import flatten, from_json
from beta_darts_jax.errors import InputError
from beta_darts_jax.runtime.workdir import NOT_COMPARED

MACHINES = ('coordinator', 'processes', 'process')  # keys of config.parallel


def get_config(run: str):
  path = pathlib.Path(run)
  path = path / 'config.json' if path.is_dir() else path
  try:
    values = json.loads(path.read_text())
    for name in MACHINES:
      values.get('parallel', {}).pop(name, None)
    config = from_json(values)
    unknown = flatten_dict(values, sep='.').keys() - flatten(config).keys()
    if lost := [name for name in unknown if name.partition('.')[0] not in NOT_COMPARED]:
      names = ', '.join(sorted(lost))
      raise ValueError(f'this version has no {names}; a run with parts of your own needs its own config file')
    repeat_settings(path.with_name('environment.json'))
  # no file, not JSON, no values of a config
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise InputError(
      f'again.py:{run}: expected the folder of a run or its config.json ({type(error).__name__}: {error})'
    ) from None
  return config


def repeat_settings(file: pathlib.Path) -> None:
  """Sets JAX and XLA_FLAGS as in the environment.json of a run; call it before JAX's first operation."""
  environment = json.loads(file.read_text()) if file.is_file() else {}
  for name, value in environment.get('settings', {}).items():
    if getattr(jax.config, name) != value:
      print(f'again.py: {name}={value}, as in {file}')
      jax.config.update(name, value)
  given = os.environ.get('XLA_FLAGS', '')
  options = environment.get('XLA_FLAGS', given)
  if given not in ('', options):
    print(f'again.py: XLA_FLAGS={options}, as in {file}')
  os.environ['XLA_FLAGS'] = options

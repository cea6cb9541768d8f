"""A run once more, from the values that it kept: same config, same seed, another folder.

  python -m beta_darts_jax.main --config configs/again.py:RUN --workdir NEW

RUN is the folder of a run, or its config.json. Where it runs may be another place: of several processes each is told
anew which it is, by config.parallel.
"""

import json
import pathlib

from beta_darts_jax.config import DEFAULTS
from beta_darts_jax.errors import InputError


def get_config(run: str):
  path = pathlib.Path(run)
  path = path / 'config.json' if path.is_dir() else path
  try:
    values = json.loads(path.read_text())
    config = DEFAULTS[values['task']]()
    for name in ('coordinator', 'processes', 'process'):
      values.get('parallel', {}).pop(name, None)
    fill(config, values)
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise InputError(f'again.py:{run}: allowed is the folder of a run ({type(error).__name__}: {error})') from None
  return config


def fill(config, values):
  for name, value in values.items():
    if isinstance(value, dict):
      fill(config[name], value)
    else:
      config[name] = tuple(value) if isinstance(value, list) else value

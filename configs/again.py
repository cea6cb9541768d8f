"""Repeats a run: the same config and seed in another folder.

  python -m beta_darts_jax.main --config configs/again.py:RUN --workdir NEW

RUN is the folder of a run, or its config.json. If the run has several processes, give --config.parallel.coordinator,
--config.parallel.processes and --config.parallel.process again. They describe the machines, so again.py does not copy
them.
"""

import json
import pathlib

from flax.traverse_util import flatten_dict

from beta_darts_jax.config import DEFAULTS
from beta_darts_jax.errors import InputError

MACHINES = ('parallel.coordinator', 'parallel.processes', 'parallel.process')


def get_config(run: str):
  path = pathlib.Path(run)
  path = path / 'config.json' if path.is_dir() else path
  try:
    values = json.loads(path.read_text())
    config = DEFAULTS[values['task']]()
    leaves = {name: value for name, value in flatten_dict(values, sep='.').items() if name not in MACHINES}
    tuples = {name: tuple(value) if isinstance(value, list) else value for name, value in leaves.items()}
    config.update_from_flattened_dict(tuples)
  except (OSError, ValueError, KeyError, TypeError) as error:  # no such file, not JSON, or not the values of a config
    raise InputError(
      f'again.py:{run}: expected the folder of a run or its config.json ({type(error).__name__}: {error})'
    ) from None
  return config

"""Checks a config: first each value against its row of the table, then the rules between values."""

import difflib
import re
from typing import Any

from ml_collections import ConfigDict

from beta_darts_jax.config.rules import rules_of
from beta_darts_jax.config.schema import DEFAULTS, flatten, keys_of, task_of
from beta_darts_jax.errors import InputError


def check(config: ConfigDict, expected_task: str = '') -> ConfigDict:
  """Returns `config` locked if it has exactly the keys of its task and every value is allowed.

  If `expected_task` is given, the config must be of that task.

  Raises:
    InputError: names the key, what was given and what is expected.
  """
  task, values = task_of(config), flatten(config)
  if expected_task and task != expected_task:
    raise _error('task', task, expected_task)
  keys = {key.name: key for key in keys_of(task)}
  for name in sorted(values.keys() - keys.keys()):
    raise InputError(unknown_key(name, task))
  for name in sorted(keys.keys() - values.keys()):
    raise InputError(f'config.{name} is missing: start from beta_darts_jax.config.{DEFAULTS[task].__name__}()')
  for key in keys.values():
    value = values[key.name]
    if not key.allows(value):
      raise _error(key.name, value, key.expected)
    if key.item_type is int and key.maximum is None and value >= 2**31:
      raise _error(key.name, value, 'an integer < 2147483648')
  step_range(config.profile)
  for rule in rules_of(config):
    if not rule.is_met:
      raise _error(rule.name, values[rule.name], rule.expected)
  return config.lock()


def _error(name: str, value: Any, expected: str) -> InputError:
  return InputError(f'config.{name}={value!r}: expected {expected}')


def unknown_key(name: str, task: str) -> str:
  """Returns a message about a dotted name that is not a key of `task`: similar keys, and the keys of its group."""
  names = [key.name for key in keys_of(task)]
  similar = difflib.get_close_matches(name, names, n=2)
  hint = f' Did you mean {" or ".join(f"config.{other}" for other in similar)}?' if similar else ''
  group = name.rpartition('.')[0]
  members = [other[len(group) :].lstrip('.') for other in names if not group or other.startswith(f'{group}.')]
  allowed = dict.fromkeys(member.split('.')[0] for member in members or names)
  return f'unknown key config.{name}.{hint} Expected one of {", ".join(allowed)}'


# ---- profile ----


def step_range(text: str) -> tuple[int, ...]:
  """Reads config.profile: 'START:STOP' → (START, STOP), '' → ().

  Raises:
    InputError: any other text.
  """
  if not text:
    return ()
  match = re.fullmatch(r'(\d+):(\d+)', text)
  if not match or int(match[1]) >= int(match[2]):
    raise _error('profile', text, "'', or START:STOP with numbers of steps, START < STOP")
  return int(match[1]), int(match[2])


def check_profile(text: str, steps: int) -> None:
  """Checks that the traced steps end within a run of `steps` steps. Raises InputError if not."""
  if max(step_range(text), default=0) > steps:
    raise _error('profile', text, f'steps up to {steps}, the last step of the run')

"""The values of a run, made from the tables of keys.

A run searches (`default`: the protocol of β-DARTS on NAS-Bench-201 with CIFAR-10)
or retrains a cell (`default_retrain`: the protocol of DARTS on CIFAR-10). The
files in configs/ change some of the values.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from beta_darts_jax.config import search_keys, shared_keys
from beta_darts_jax.config.key import ABOVE_0, Key
from beta_darts_jax.config.retrain_keys import RETRAIN
from beta_darts_jax.errors import InputError
from beta_darts_jax.method.optimizers import MEMBER_KEYS, SCALARS, SETTING_KEYS
from beta_darts_jax.method.regularizers import REGULARIZERS, SCHEDULES

# default λ and schedule of the weights that are not 0 and constant
_WEIGHT_DEFAULTS = {'beta_decay_weight': (50.0, 'per_step')}

# ---- keys ----


def keys_of(task: str) -> tuple[Key, ...]:
  """Returns all keys of 'search' or 'retrain', among them the weights of regularizers that a config file registered."""
  if task == 'retrain':
    return RETRAIN
  keys = (*search_keys.SEARCH, *_weight_keys(), *_scalar_keys(), *search_keys.SEARCH_LOOP)
  return (
    *search_keys.NAME,
    *shared_keys.DATA,
    *search_keys.SEARCH_DATA,
    *search_keys.SPACE,
    *keys,
    *search_keys.METHOD,
    *search_keys.SELECTION,
    *search_keys.POPULATION,
    *(_population_key(key) for key in (*keys, *search_keys.METHOD) if key.varied),
    *search_keys.COMPARISON,
    *shared_keys.PARALLEL,
    *search_keys.SEARCH_PARALLEL,
    *shared_keys.RUN,
  )


def regularizers_by_weight() -> dict[str, list[str]]:
  """Returns {name of a weight: the registered regularizers that use it}, in the order of REGULARIZERS.

  Raises:
    InputError: the name of a weight does not end in '_weight'.
  """
  users: dict[str, list[str]] = {}
  for name, regularizer in REGULARIZERS.items():
    if not regularizer.weight.endswith('_weight'):
      raise InputError(f'regularizer {name!r}: weight={regularizer.weight!r}: expected a name that ends in _weight')
    users.setdefault(regularizer.weight, []).append(name)
  return users


def _weight_keys() -> list[Key]:
  """Returns the keys of the weights λ of all registered regularizers, with their schedules."""
  keys = []
  for weight, users in regularizers_by_weight().items():
    default, schedule = _WEIGHT_DEFAULTS.get(weight, (0.0, 'constant'))
    meaning = f'largest weight λ of {" and ".join(users)}'
    used_by = ('search.regularizers', tuple(users))
    keys.append(Key(f'search.{weight}', default, meaning, only_with=used_by, varied=True))
    name, meaning = f'search.{weight.removesuffix("_weight")}_schedule', f'how search.{weight} depends on the epoch'
    keys.append(Key(name, schedule, f'{meaning} (docs/methods.md)', choices=SCHEDULES, only_with=used_by))
  return keys


def _scalar_keys() -> list[Key]:
  """Returns the keys of the scalars that a config file added for its own parts."""
  of_search = (*search_keys.SEARCH, *_weight_keys(), *search_keys.SEARCH_LOOP)
  varied = [key for key in search_keys.METHOD if key.varied]  # config.population has their short names
  names = {_short(key) for key in (*of_search, *varied, *search_keys.POPULATION)}
  taken = names.union(MEMBER_KEYS, SETTING_KEYS)
  if same := sorted(taken & SCALARS.keys()):
    raise InputError(
      f'SCALARS: {", ".join(same)}: expected other names than those of the keys of config.search and '
      'config.population, and of the values in result.json'
    )
  meaning = 'scalar of a part of the config file'
  return [Key(f'search.{name}', default, meaning, minimum=-math.inf, varied=True) for name, default in SCALARS.items()]


def _population_key(key: Key) -> Key:
  """Returns the key of the group `population` that lists the values of `key`."""
  return dataclasses.replace(
    key,
    name=f'population.{_short(key)}',
    default=(),
    meaning=f'values of {key.name} in the population; () does not vary it',
    items=float,
    varied=False,
  )


def _short(key: Key) -> str:
  return key.name.rpartition('.')[2]


def varied_keys() -> dict[str, str]:
  """Returns {name in config.population: key} of what the members of a population may vary."""
  return {_short(key): key.name for key in keys_of('search') if key.varied}


def is_population(settings: Mapping[str, Any]) -> bool:
  """Returns whether `settings`, a mapping like `config.population`, asks for several seeds or values."""
  return settings['seeds'] > 1 or any(settings[name] for name in varied_keys())


def epochs_to_run(search: Mapping[str, Any]) -> int:
  """Returns the number of epochs after which a search ends; `search` is a mapping like `config.search`."""
  return search.get('last_epoch') or search['epochs']


# ---- configs ----


def default() -> ConfigDict:
  """Returns the config of the official search. New keys cannot be added to it."""
  return _make_config('search')


def default_retrain() -> ConfigDict:
  """Returns the config of a retraining on CIFAR-10 as DARTS does it. New keys cannot be added to it."""
  return _make_config('retrain')


def _make_config(task: str) -> ConfigDict:
  return ConfigDict(unflatten_dict({key.name: key.default for key in keys_of(task)}, sep='.')).lock()


DEFAULTS = {'search': default, 'retrain': default_retrain}


def from_json(values: Mapping[str, Any]) -> ConfigDict:
  """Returns a config with the values of a run's config.json. Keys that this version does not have are left out."""
  config = DEFAULTS[values['task']]()
  known, given = flatten(config), flatten_dict(values, sep='.')
  tuples = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
  config.update_from_flattened_dict({name: value for name, value in tuples.items() if name in known})
  return config


def task_of(config: ConfigDict) -> str:
  """Returns the task of a config, 'search' if it names none.

  Raises:
    InputError: unknown task.
  """
  task = config.get('task', 'search')
  if task not in DEFAULTS:
    raise InputError(f'config.task={task!r}: expected one of {", ".join(DEFAULTS)}')
  return task


def flatten(config: ConfigDict) -> dict[str, Any]:
  """Returns {dotted key: value}."""
  return flatten_dict(config.to_dict(), sep='.')


def default_path(config: ConfigDict, seed: int) -> str:
  """Returns the default folder of a run; other characters than letters, digits, - and . become _."""
  dataset = re.sub(r'[^\w.-]+', '_', config.data.source)
  return f'runs/{config.name}-{dataset}-{seed}'


# ---- values without effect ----


def ignored_options(config: ConfigDict) -> list[str]:
  """Returns a message for each value that is not the default and that this config does not use."""
  keys, values = {key.name: key for key in keys_of(task_of(config))}, flatten(config)
  messages = []
  for name, key in keys.items():
    condition = unmet_condition(key, keys, values)
    is_off = name.endswith('_weight') and values[name] == 0  # the baseline of a method
    if condition and values[name] != key.default and not is_off:
      messages.append(f'config.{name}={values[name]!r} is ignored: it applies only with config.{condition}')
  return messages


def unmet_condition(key: Key, keys: Mapping[str, Key], values: Mapping[str, Any]) -> str:
  """Returns the condition for `key`, or for a key that `key` depends on, if `values` do not meet it; else ''."""
  if key.only_with is None:
    return ''
  other, needed = key.only_with
  given = values[other] if isinstance(values[other], tuple) else (values[other],)
  # A part that a config file registered may use any option.
  choices = BUILT_IN_CHOICES.get(other)
  if needed == ABOVE_0:
    is_met = any(value > 0 for value in given)
  else:
    is_met = any(value in needed or (choices and value not in choices) for value in given)
  return unmet_condition(keys[other], keys, values) or ('' if is_met else key.condition)


# name of a key of the method → its choices before a config file registers parts
BUILT_IN_CHOICES = {
  key.name: frozenset(key.choices) for task in DEFAULTS for key in keys_of(task) if key.choices and key.name != 'task'
}

"""The values of a run, made from the tables of keys.

A run searches (`default`: the protocol of β-DARTS on NAS-Bench-201 with CIFAR-10)
or retrains a cell (`default_retrain`: the protocol of DARTS on CIFAR-10). The
files in configs/ change some of the values.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from beta_darts_jax.config import search_keys, shared_keys
from beta_darts_jax.config.key import Key
from beta_darts_jax.config.retrain_keys import RETRAIN
from beta_darts_jax.errors import InputError
from beta_darts_jax.method.regularizers import REGULARIZERS, SCHEDULES

# default λ and schedule of the weights that are not 0 and constant
_WEIGHT_DEFAULTS = {'beta_decay_weight': (50.0, 'linear')}


class Description(NamedTuple):
  """A line of the documentation: a key, the Python text of its default, its meaning and its choices."""

  name: str
  default: str
  meaning: str


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
    keys.append(Key(f'search.{weight}', default, meaning, varied=True))
    meaning = f'how search.{weight} depends on the epoch (linear: it grows from 0)'
    keys.append(Key(f'search.{weight.removesuffix("_weight")}_schedule', schedule, meaning, choices=SCHEDULES))
  return keys


def _population_keys(keys: Iterable[Key]) -> list[Key]:
  """Returns for each varied key the key of the group `population` that lists its values."""
  return [
    dataclasses.replace(
      key,
      name=key.name.replace('search.', 'population.'),
      default=(),
      meaning=f'values of {key.name} in the population; () does not vary it',
      items=float,
      varied=False,
    )
    for key in keys
    if key.varied
  ]


def keys_of(task: str) -> tuple[Key, ...]:
  """Returns all keys of 'search' or 'retrain', among them the weights of regularizers that a config file registered."""
  return _search_keys() if task == 'search' else RETRAIN


def _search_keys() -> tuple[Key, ...]:
  varied = (*search_keys.SEARCH, *_weight_keys(), *search_keys.SEARCH_LOOP)
  return (
    *search_keys.NAME,
    *shared_keys.DATA,
    *search_keys.SPACE,
    *varied,
    *search_keys.METHOD,
    *search_keys.SELECTION,
    *search_keys.POPULATION,
    *_population_keys(varied),
    *search_keys.COMPARISON,
    *shared_keys.PARALLEL,
    *search_keys.SEARCH_PARALLEL,
    *shared_keys.RUN,
  )


def varied() -> tuple[str, ...]:
  """Returns the keys of config.search that the members of a population may vary, without 'search.'."""
  return tuple(key.name.removeprefix('search.') for key in keys_of('search') if key.varied)


def is_asked_for(settings: Mapping[str, Any]) -> bool:
  """Returns whether `settings`, a mapping like `config.population`, asks for several seeds or values."""
  return settings['seeds'] > 1 or any(settings[name] for name in varied())


# ---- configs ----


def default() -> ConfigDict:
  """Returns the config of the official search. New keys cannot be added to it."""
  return _config(keys_of('search'))


def default_retrain() -> ConfigDict:
  """Returns the config of a retraining on CIFAR-10 as DARTS does it. New keys cannot be added to it."""
  return _config(keys_of('retrain'))


def _config(keys: Iterable[Key]) -> ConfigDict:
  return ConfigDict(unflatten_dict({key.name: key.default for key in keys}, sep='.')).lock()


DEFAULTS = {'search': default, 'retrain': default_retrain}


def task_of(config: ConfigDict) -> str:
  """Returns the task of a config, 'search' if it names none.

  Raises:
    InputError: unknown task.
  """
  task = config.get('task', 'search')
  if task not in DEFAULTS:
    raise InputError(f'config.task={task!r}: expected one of {", ".join(DEFAULTS)}')
  return task


def defaults_for(config: ConfigDict) -> ConfigDict:
  """Returns the defaults for the task of `config`. Raises InputError if the task is unknown."""
  return DEFAULTS[task_of(config)]()


def flatten(config: ConfigDict) -> dict[str, Any]:
  """Returns {dotted key: value}."""
  return flatten_dict(config.to_dict(), sep='.')


def default_path(config: ConfigDict, seed: int) -> str:
  """Returns the default folder of a run; other characters than letters, digits, - and . become _."""
  dataset = re.sub(r'[^\w.-]+', '_', config.data.source)
  return f'runs/{config.name}-{dataset}-{seed}'


# ---- texts ----


def documentation(task: str) -> list[Description]:
  """Returns the documentation of every key of a task, in the order of the tables."""
  return [Description(key.name, repr(key.default), _description(key)) for key in keys_of(task)]


def _description(key: Key) -> str:
  text = key.meaning
  if key.choices is not None and len(key.choices) > 1:
    text += f'; {"some" if isinstance(key.default, tuple) else "one"} of {", ".join(key.choices)}'
  if key.only_with is not None:
    text += f'; only with {_condition(key)}'
  return text


def _condition(key: Key) -> str:
  other, (*first, last) = key.only_with or ('', ('',))
  return f'{other}={", ".join(first)} or {last}' if first else f'{other}={last}'


def ignored_options(config: ConfigDict) -> list[str]:
  """Returns a message for each value that is not the default and that this config does not use."""
  keys, values = {key.name: key for key in keys_of(task_of(config))}, flatten(config)
  messages = []
  for name, key in keys.items():
    unmet = _unmet(key, keys, values)
    if unmet and values[name] != key.default:
      messages.append(f'config.{name}={values[name]!r} is ignored: it applies only with config.{_condition(unmet)}')
  return messages


def _unmet(key: Key, keys: Mapping[str, Key], values: Mapping[str, Any]) -> Key | None:
  """Returns the key whose `only_with` is not met: a key that `key` depends on, or `key` itself."""
  if key.only_with is None:
    return None
  other, allowed = key.only_with
  if unmet := _unmet(keys[other], keys, values):
    return unmet
  # A part that a config file registered may use any option.
  return key if values[other] not in allowed and values[other] in _BUILT_IN else None


_BUILT_IN = frozenset(choice for task in DEFAULTS for key in keys_of(task) for choice in key.choices or ())

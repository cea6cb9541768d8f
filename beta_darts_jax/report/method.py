"""The name of the method of a search."""

from collections.abc import Mapping
from typing import Any

from beta_darts_jax.config import keys_of
from beta_darts_jax.config.named_methods import METHODS, MORE_WEIGHT_DECAY
from beta_darts_jax.method.regularizers import REGULARIZERS

_PARTS = (  # the keys that tell the methods apart, besides the regularizers and the weight decay
  'hypergradient.method',
  'relaxation.sampling',
  'relaxation.perturbation',
  'relaxation.partial_channels',
  'relaxation.edge_normalization',
  'relaxation.auxiliary_skip',
  'derivation.method',
  'search.weight_optimizer',
  'search.flood_level',
)


def method_name(values: Mapping[str, Any]) -> str:
  """Returns the name in METHODS of the method of a search. Without such a name it returns the method's parts in words.

  Args:
    values: {dotted key: value} of the config. Keys that an older version did not have may be missing.
  """
  defaults = {key.name: key.default for key in keys_of('search')}
  values = defaults | dict(values)
  given = _signature(values)
  for name, method in METHODS.items():
    without_decay = {} if name.startswith('beta_') else {'search.beta_decay_weight': 0.0}
    if _signature(defaults | without_decay | dict(method.values)) == given:
      return name
  parts = {key: values[key] for key in _PARTS if values[key] != defaults[key]}
  words = [_in_words(key, value) for key, value in parts.items()]
  return ', '.join([*words, *sorted(_active_regularizers(values))] or ['no regularizer']).replace('_', ' ')


def _signature(values: Mapping[str, Any]) -> tuple:
  """Returns what two configs of one method have in common."""
  parts = {key: values[key] for key in _PARTS} | {
    'search.weight_decay': values['search.weight_decay'] == MORE_WEIGHT_DECAY,
    'relaxation.partial_channels': values['relaxation.partial_channels'] > 1,  # PC-DARTS has 4 or 2
    'search.weight_optimizer': values['search.weight_optimizer'] == 'weight_sgd_oles',  # GDAS has one of two
  }
  return _active_regularizers(values), *parts.values()


def _active_regularizers(values: Mapping[str, Any]) -> frozenset[str]:
  """Returns the regularizers whose weight is not 0, or is varied. One that is not registered here counts as active."""

  def is_active(name):
    weight = REGULARIZERS[name].weight if name in REGULARIZERS else ''
    return bool(values.get(f'search.{weight}', 1.0) or values.get(f'population.{weight}'))

  return frozenset(filter(is_active, values['search.regularizers']))


def _in_words(key: str, value: Any) -> str:
  word = key.rpartition('.')[2]
  if value is True:
    return word
  return value if isinstance(value, str) else f'{word} {value:g}'

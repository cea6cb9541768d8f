"""The rules between the values of a config. They are checked after each value was found to be allowed."""

import re
from typing import NamedTuple

from ml_collections import ConfigDict

from beta_darts_jax.config.schema import (
  default,
  epochs_to_run,
  flatten,
  is_population,
  keys_of,
  regularizers_by_weight,
  task_of,
  unmet_condition,
  varied_keys,
)
from beta_darts_jax.spaces.space import SPACES


class Rule(NamedTuple):
  """A condition on several values; `name` is the key that an error names."""

  is_met: bool
  name: str
  expected: str


def rules_of(config: ConfigDict) -> list[Rule]:
  """Returns the rules for the task of `config`, each with whether it is met."""
  is_a_name = re.fullmatch(r'[\w.-]+', config.name) is not None
  name_rule = Rule(is_a_name, 'name', 'letters, digits, _, - and . (the name is part of a folder)')
  if task_of(config) == 'retrain':
    return [name_rule, *_retrain_rules(config)]
  groups = (_data_rules, _epoch_rules, _part_rules, _weight_rules, _population_rules)
  return [name_rule, *(rule for rules in groups for rule in rules(config))]


def _data_rules(config: ConfigDict) -> list[Rule]:
  """Rules between the values of a search's data."""
  data = config.data
  fractions_fit = data.alpha_fraction == 0 or data.fraction + data.alpha_fraction <= 1
  expected = f'at most 1 − data.fraction, and data.fraction is {data.fraction}'
  return [
    Rule(fractions_fit, 'data.alpha_fraction', expected),
    _crop_scale_rule(data),
    *(_resized_crops_rules(config) if data.crops == 'resized' else []),
  ]


def _resized_crops_rules(config: ConfigDict) -> list[Rule]:
  """Rules for a search with random resized crops, which streams its images and augments them on the host."""
  data, size, when = config.data, config.data.image_size or 224, 'with data.crops=resized'
  return [
    Rule(data.residence != 'device', 'data.residence', f'auto or stream {when}'),
    Rule(data.crop_padding == 0, 'data.crop_padding', f'0 {when}'),
    Rule(data.cutout == 0, 'data.cutout', f'0 {when}'),
    Rule(data.resize >= size, 'data.resize', f'the image size, {size}, or more'),
    Rule(not config.derivation.augment, 'derivation.augment', f'False {when}'),
  ]


def _crop_scale_rule(data: ConfigDict) -> Rule:
  smallest, largest = data.crop_scale
  return Rule(smallest <= largest, 'data.crop_scale', 'the smaller fraction first')


def _retrain_rules(config: ConfigDict) -> list[Rule]:
  has_tail = config.train.schedule == 'linear_tail'
  return [
    _crop_scale_rule(config.data),
    Rule(not has_tail or config.train.epochs > 5, 'train.epochs', 'more than 5 with train.schedule=linear_tail'),
  ]


def _epoch_rules(config: ConfigDict) -> list[Rule]:
  """Rules between numbers of epochs."""
  epochs, warmup, last = config.search.epochs, config.search.alpha_warmup_epochs, config.search.alpha_epochs
  run_epochs = epochs_to_run(config.search)
  every, window = config.diagnostics.every_epochs, config.early_stopping.eigenvalue_window
  watches_eigenvalues = config.early_stopping.eigenvalue_ratio > 0
  num_diagnostics = run_epochs // every if every else 0
  with_diagnostics = '0 unless diagnostics.every_epochs > 0'
  is_tail_too_short = config.retrain.schedule == 'linear_tail' and 0 < config.retrain.epochs <= 5
  return [
    Rule(warmup < epochs, 'search.alpha_warmup_epochs', f'less than search.epochs={epochs}'),
    Rule(
      last == 0 or warmup < last <= epochs,
      'search.alpha_epochs',
      f'0, or more than search.alpha_warmup_epochs={warmup} and at most search.epochs={epochs}',
    ),
    Rule(run_epochs <= epochs, 'search.last_epoch', f'0, or at most search.epochs={epochs}'),
    Rule(every <= run_epochs, 'diagnostics.every_epochs', f'at most {run_epochs}, the epochs of the search'),
    Rule(every > 0 or not watches_eigenvalues, 'early_stopping.eigenvalue_ratio', with_diagnostics),
    Rule(every > 0 or not config.diagnostics.kendall_cells, 'diagnostics.kendall_cells', with_diagnostics),
    Rule(
      not watches_eigenvalues or num_diagnostics >= 2 * window,
      'early_stopping.eigenvalue_window',
      f'at most half of the {num_diagnostics} epochs with diagnostics',
    ),
    Rule(not is_tail_too_short, 'retrain.epochs', '0, or more than 5 with retrain.schedule=linear_tail'),
  ]


def _part_rules(config: ConfigDict) -> list[Rule]:
  """Rules between the parts of the method."""
  divisor, channels = config.relaxation.partial_channels, config.supernet.channels
  least = 1 if divisor == 1 or config.space.name == 'nas_bench_201' else 2
  names, stopping = config.search.regularizers, config.early_stopping
  by_perturbation = config.derivation.method == 'perturbation'
  sums_to_one = config.relaxation.sampling != 'sigmoid'  # the rows of β, as DARTS-PT and the perturbations assume
  stops_early = stopping.eigenvalue_ratio or (stopping.skips and is_population(config.population))
  return [
    *_chain_rules(config),
    Rule(len(set(names)) == len(names), 'search.regularizers', 'different names'),
    Rule(
      channels % divisor == 0 and channels // divisor >= least,
      'relaxation.partial_channels',
      f'a divisor of supernet.channels={channels}' + (' that leaves at least two channels' if least == 2 else ''),
    ),
    Rule(
      not (config.relaxation.auxiliary_skip and config.space.auxiliary_skip),
      'relaxation.auxiliary_skip',
      'False with space.auxiliary_skip=True',
    ),
    Rule(
      sums_to_one or config.relaxation.perturbation == 'none',
      'relaxation.perturbation',
      'none with relaxation.sampling=sigmoid',
    ),
    Rule(sums_to_one or not by_perturbation, 'derivation.method', 'argmax with relaxation.sampling=sigmoid'),
    Rule(
      not (by_perturbation and (config.derivation.epoch == 'best' or stops_early)),
      'derivation.method',
      'argmax, or perturbation with derivation.epoch=last and without early stopping (a single search may stop by '
      'early_stopping.skips)',
    ),
  ]


def _chain_rules(config: ConfigDict) -> list[Rule]:
  """What needs cells or edges of one shape is off in a space without cells."""
  space = config.space.name
  if not SPACES[space].is_chain:
    return []
  aligned = [name for name in config.search.regularizers if name.startswith('lambda_darts')]
  wanted = {'relaxation.partial_channels': 1, 'relaxation.edge_normalization': False}
  wanted |= {'relaxation.auxiliary_skip': False, 'space.auxiliary_skip': False}
  values = flatten(config)
  return [
    *(Rule(values[key] == value, key, f'{value} with space.name={space}') for key, value in wanted.items()),
    Rule(not aligned, 'search.regularizers', f'no lambda_darts with space.name={space}: no cells share their α'),
  ]


def _weight_rules(config: ConfigDict) -> list[Rule]:
  """A weight that is given has a regularizer that uses it. A weight of 0 is allowed: it is the baseline of a method."""
  rules, defaults = [], default().search
  for weight, users in regularizers_by_weight().items():
    is_used = bool(set(users) & set(config.search.regularizers))
    expected = f'{" or ".join(users)} in search.regularizers, which use it'
    is_given = config.search[weight] != 0 and defaults[weight] == 0
    rules.append(Rule(is_used or not is_given, f'search.{weight}', f'0, or {expected}'))
    rules.append(Rule(is_used or not config.population[weight], f'population.{weight}', f'(), or {expected}'))
  return rules


def _population_rules(config: ConfigDict) -> list[Rule]:
  lists = {name: config.population[name] for name in varied_keys()}
  last_seed = config.search.seed + config.population.seeds - 1
  single = config.retrain.epochs == 0 or not is_population(config.population)
  keys, values = {key.name: key for key in keys_of('search')}, flatten(config)
  conditions = {name: unmet_condition(keys[key], keys, values) for name, key in varied_keys().items()}
  return [
    *(Rule(not lists[name], f'population.{name}', f'(), or config.{c}') for name, c in conditions.items() if c),
    *(Rule(len(set(v)) == len(v), f'population.{name}', 'different values') for name, v in lists.items()),
    Rule(last_seed < 2**32, 'population.seeds', f'seeds below {2**32}, from search.seed={config.search.seed}'),
    Rule(single, 'retrain.epochs', '0 with a population (retrain the cell of a folder members/K instead)'),
  ]

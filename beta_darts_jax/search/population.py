"""Many searches in one program: seeds times values of the search's scalars, and statistics of their results."""

import itertools
from collections.abc import Iterable, Mapping

import numpy as np

from beta_darts_jax.method.optimizers import MEMBER_KEYS
from beta_darts_jax.search.schedule import Member


def make_members(seed: int, seeds: int, values: Mapping[str, tuple[float, ...]]) -> tuple[Member, ...]:
  """Returns the members of a population: each combination of values with every seed.

  Args:
    seed: the first seed.
    seeds: number of seeds.
    values: {name of a scalar: its values}; () does not vary it.
  """
  varied = {name: given for name, given in values.items() if given}
  settings = [dict(zip(varied, combination, strict=True)) for combination in itertools.product(*varied.values())]
  return tuple(Member(seed + i, setting) for setting in settings for i in range(seeds))


def setting_of(member: Mapping) -> dict:
  """Returns the varied values of a member of result.json."""
  return {name: value for name, value in member.items() if name not in MEMBER_KEYS}


def mean_and_spread(values: Iterable[float | None]) -> dict:
  """Returns {'mean', 'std', 'n'} of the values that are not None.

  The mean is None without values. The standard deviation is that of the sample, None with fewer than two values.
  """
  known = [value for value in values if value is not None]
  return {
    'mean': float(np.mean(known)) if known else None,
    'std': float(np.std(known, ddof=1)) if len(known) > 1 else None,
    'n': len(known),
  }


def summarize_settings(results: list[dict]) -> list[dict]:
  """Returns mean and spread over the seeds of each setting.

  Args:
    results: the results of the members, as in result.json; members with one setting follow each other.

  Returns:
    For each setting its values, `genotypes` (number of different cells), `diverged` (number of members), and
    `mean_and_spread` of train_accuracy, valid_accuracy, the numbers of `benchmark` and the derived cost.
  """
  return [_summarize_setting(setting, list(group)) for setting, group in itertools.groupby(results, setting_of)]


def _summarize_setting(setting, members):
  summary = setting | {
    'genotypes': len({member['genotype'] for member in members} - {None}),
    'diverged': sum(not member['genotype'] for member in members),
  }
  for name in ('train_accuracy', 'valid_accuracy'):
    summary[name] = mean_and_spread(member[name] for member in members)
  rows = [member['benchmark'] for member in members if member.get('benchmark')]
  if rows:
    numbers = [name for name, value in rows[0].items() if isinstance(value, int | float)]
    summary['benchmark'] = {name: mean_and_spread(row[name] for row in rows) for name in numbers}
  if costs := [member['cost']['derived'] for member in members if 'cost' in member]:
    summary['cost'] = mean_and_spread(costs)
  return summary

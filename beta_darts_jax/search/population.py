"""Many searches in one program: seeds times values of the search's scalars, and what they came to."""

import itertools

import numpy as np

from beta_darts_jax.config.schema import varied


def members(seed: int, seeds: int, values: dict[str, tuple[float, ...]]) -> list[dict]:
  """The members of a population: of each setting, every seed.

  Args:
    seed: the first.
    seeds: how many.
    values: {key of config.search: its values}; () does not vary it.

  Returns:
    For each member what sets it apart: {'seed': …, name: value, …}.
  """
  lists = {name: values[name] for name in varied() if values[name]}
  settings = [dict(zip(lists, combination, strict=True)) for combination in itertools.product(*lists.values())]
  return [{'seed': seed + i} | setting for setting in settings for i in range(seeds)]


def setting_of(member: dict) -> dict:
  """What sets a member apart but for its seed."""
  names = varied()
  return {name: value for name, value in member.items() if name in names}


def mean_and_spread(values) -> dict:
  """{'mean', 'std' (of the sample; None of one value), 'n'} of the values that are not None; None without any."""
  values = [value for value in values if value is not None]
  return {
    'mean': float(np.mean(values)) if values else None,
    'std': float(np.std(values, ddof=1)) if len(values) > 1 else None,
    'n': len(values),
  }


def summarize(results: list[dict]) -> list[dict]:
  """Mean and spread of each setting over its seeds.

  Args:
    results: of the members: what sets them apart, accuracies (None of a diverged member), genotype, benchmark or None.

  Returns:
    For each setting its values, `genotypes` (number of different cells), `diverged` (members), and mean_and_spread of
    train_accuracy, valid_accuracy and the numbers of `benchmark`.
  """
  summary = []
  for group in (list(members) for _, members in itertools.groupby(results, setting_of)):
    figures = {n: mean_and_spread(r[n] for r in group) for n in ('train_accuracy', 'valid_accuracy')}
    rows = [result['benchmark'] for result in group if result.get('benchmark')]
    numbers = [name for name, value in rows[0].items() if isinstance(value, (int, float))] if rows else []
    summary.append(
      setting_of(group[0])
      | {'genotypes': len({r['genotype'] for r in group} - {None}), 'diverged': sum(not r['genotype'] for r in group)}
      | figures
      | ({'benchmark': {name: mean_and_spread(row[name] for row in rows) for name in numbers}} if rows else {})
    )
  return summary

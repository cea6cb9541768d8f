"""Measures of a search and tests between arms: values computed by hand, closed forms, SciPy's own statistics."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from beta_darts_jax import MOBILE, NasBench201
from beta_darts_jax.spaces.genotype import Genotype
from studies.measures import (
  PUBLISHED,
  baselines,
  distance,
  flips,
  measure_names,
  measures,
  parameter_free,
  percentile,
  steadiness,
)
from studies.statistics import centred_alphas, energy_p, gap_of_means, paired_p

SKIPS = '|skip_connect~0|+|skip_connect~0|none~1|+|skip_connect~0|nor_conv_1x1~1|avg_pool_3x3~2|'


@pytest.fixture
def table(made_up_table):
  return made_up_table


def row(cell, betas=None):
  return {'genotype': cell, 'betas': {'cell': betas or np.eye(5)[:1].repeat(6, 0).tolist()}, 'seconds': 2.0}


def test_percentile_is_100_for_the_best_cell_and_50_on_average(table):
  every_thousandth = [percentile(table, cell) for cell in list(table)[::1000]]
  assert percentile(table, table.optimum('cifar10_test')) == 100
  assert min(every_thousandth) == pytest.approx(0) and max(every_thousandth) <= 100
  np.testing.assert_allclose(np.mean([percentile(table, c) for c in itertools.islice(table, 0, None, 7)]), 50, atol=0.5)


def test_percentile_with_ties_and_opposite_columns(table):
  """CIFAR-100 in reverse order and ImageNet16-120 constant: every cell has (p + (100 − p) + 100)/3, except two ties."""
  cells = list(table)
  rows = {}
  for cell in cells:
    cifar10 = 0.0 if cell in cells[:2] else table[cell].cifar10_test
    rows[str(cell)] = replace(table[cell], cifar10_test=cifar10, cifar100_test=-cifar10, imagenet16_120_test=0.0)
  for cell in cells[:2]:  # two ties, worst in both columns
    rows[str(cell)] = replace(rows[str(cell)], cifar100_test=-1000.0)
  mixed = NasBench201(rows)
  np.testing.assert_allclose([percentile(mixed, cell) for cell in cells[2::3000]], 200 / 3, atol=0.01)
  assert [percentile(mixed, cell) for cell in cells[:2]] == [pytest.approx((2 * 100 / 15_624 + 100) / 3)] * 2
  all_3x3 = PUBLISHED.replace('skip_connect', 'nor_conv_3x3')
  assert baselines(mixed, 'cifar10').loc['all 3×3', 'percentile'] == percentile(mixed, all_3x3)


def test_parameter_free_and_distance():
  published, skips = Genotype.parse(PUBLISHED), Genotype.parse(SKIPS)
  assert parameter_free(published) == 1 and parameter_free(skips) == 5
  assert distance(published, published) == 0 and distance(published, skips) == 5


def test_measures_of_a_history(table):
  history = [row(PUBLISHED)] * 8 + [row(SKIPS), row(PUBLISHED)]
  np.testing.assert_allclose(flips(history), 10 / 9)
  found = measures(history, table)
  assert set(found) == set(measure_names(with_table=True))
  np.testing.assert_allclose(found['percentile'], (percentile(table, PUBLISHED) + percentile(table, SKIPS)) / 2)
  assert (found['collapsed'], found['distance_to_published'], found['epochs'], found['seconds']) == (0, 0, 10, 20.0)
  assert measures(history[:9], table)['collapsed'] == 1
  assert set(measures(history, None)) == set(measure_names(with_table=False))
  assert measures([row(PUBLISHED), row(None)], table) == {'genotype': None, 'epochs': 2, 'seconds': 4.0}


def test_steadiness_is_the_margin_over_the_spread_of_its_changes():
  margins = [0.0, 0.1, 0.4, 0.5]
  betas = [[0.5 + margin / 2, 0.5 - margin / 2] for margin in margins]
  history = [row(SKIPS, [beta] * 6) for beta in betas]
  np.testing.assert_allclose(steadiness(history), 0.5 / np.std(np.diff(margins), ddof=1))
  assert steadiness([row(SKIPS, [beta] + [[0.9, 0.1]] * 5) for beta in betas]) == steadiness(history)
  assert steadiness(history[:2]) is None and steadiness([history[0]] * 4) is None


def test_paired_p_is_exact():
  assert paired_p([1.0] * 6) == 2 / 2**6 and paired_p([1.0, -1.0]) == 1 and paired_p([1.0]) == 1
  many = [1.0] * 16 + [-1.0] * 8  # equal sizes: the sign test; too many pairs for the exact form
  np.testing.assert_allclose(paired_p(many), 2 * stats.binom.sf(15, 24, 0.5), atol=0.005)


def test_centred_alphas_have_mean_0_on_every_edge():
  alpha = np.random.default_rng(0).normal(size=(6, 5))
  betas = np.exp(alpha) / np.exp(alpha).sum(axis=1, keepdims=True)
  expected = alpha - alpha.mean(axis=1, keepdims=True)
  np.testing.assert_allclose(centred_alphas({'betas': {'cell': betas.tolist()}}).reshape(6, 5), expected)


def test_energy_p_equals_that_of_scipys_distance_in_one_dimension():
  """4 against 4: 70 permutations, so both tests are exact."""
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=(4, 1)), rng.normal(1.0, size=(4, 1))
  expected = stats.permutation_test((a[:, 0], b[:, 0]), stats.energy_distance, vectorized=False, alternative='greater')
  np.testing.assert_allclose(energy_p(a, b), expected.pvalue)
  narrow, wide = rng.normal(size=(20, 30)), 3 * rng.normal(size=(20, 30))
  assert energy_p(narrow, wide, permutations=199) < 0.01


def test_constant_entries_are_ignored():
  """An edge with one candidate has such an entry."""
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=(5, 3)), rng.normal(1.0, size=(5, 3))
  longer_a, longer_b = (np.insert(x, 1, 0.5, axis=1) for x in (a, b))
  assert energy_p(longer_a, longer_b, permutations=99) == energy_p(a, b, permutations=99)
  assert gap_of_means(longer_a, longer_b, draws=99) == gap_of_means(a, b, draws=99)
  constant = np.ones((5, 2))
  assert energy_p(constant, constant, permutations=99) == 1
  assert gap_of_means(constant, constant, draws=9) == (0, 0)


def test_gap_of_means_is_the_shift_in_standard_deviations():
  a = np.random.default_rng(0).normal(size=(20, 3))
  gap, bound = gap_of_means(a, a + 2 * a.std(axis=0, ddof=1), draws=99)
  np.testing.assert_allclose(gap, 2)
  assert 2 < bound < 3.5


def test_baselines_of_the_made_up_table(table):
  found = baselines(table, 'cifar10')
  np.testing.assert_allclose(found.loc['random cell', 'percentile'], 50, atol=0.1)
  best_of = [found.loc[f'best of {k} by validation', 'percentile'] for k in (10, 50)]
  assert 80 < best_of[0] < best_of[1]
  assert found.loc['all 3×3', 'cifar10_test'] == table.column('cifar10_test').max()
  assert found.loc['published cell of β-DARTS', 'percentile'] == percentile(table, PUBLISHED)
  np.testing.assert_allclose(found.loc['random cell', 'parameter_free'], 3.6)  # three of five operations on six edges
  np.testing.assert_allclose(found.loc['random cell', 'collapsed'], stats.binom.sf(2, 6, 3 / 5))


def test_the_measures_of_a_chain_are_of_all_its_layers():
  """Its cell types have different numbers of candidates."""
  chain = Genotype.parse(
    ' | '.join(['mb_conv_3x3_e3 > skip_connect > skip_connect > skip_connect'] * 5 + ['mb_conv_3x3_e3'])
  )
  betas = MOBILE.one_hot(chain)
  noise = np.random.default_rng(0)
  rows = [
    {
      'epoch': epoch, 'seconds': 1.0, 'genotype': str(chain),
      'betas': {name: (beta + noise.uniform(size=np.shape(beta))).tolist() for name, beta in betas.items()},
    }
    for epoch in range(4)
  ]  # fmt: skip
  found = measures(rows, None)
  assert found['parameter_free'] == 15 and found['steadiness'] > 0

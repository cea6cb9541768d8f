"""run_search with an own operation, regularizer, relaxation and optimizers, in a population, stopped and resumed."""

import html
import pathlib
import runpy

import jax
import numpy as np
import pytest
from small_run import final_state, make_config, read_rows, run, stop_at_once

import beta_darts_jax as bd
from beta_darts_jax.errors import Stopped
from beta_darts_jax.runtime import session

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'
OWN = ('own_operation', 'own_regularizer', 'own_relaxation', 'own_optimizer')
REGISTRIES = (bd.OPERATIONS, bd.REGULARIZERS, bd.RELAXATIONS, bd.OPTIMIZERS, bd.SCALARS)


@pytest.fixture
def own_parts():
  """Registers the parts of the example configs, and forgets them after the test."""
  before = [dict(registry) for registry in REGISTRIES]
  for name in OWN:
    runpy.run_path(str(CONFIGS / f'{name}.py'))
  yield
  for registry, entries in zip(REGISTRIES, before, strict=True):
    registry.clear()
    registry.update(entries)


@pytest.mark.full
def test_run_search_resumes_a_population_with_own_parts(own_parts, tmp_path, monkeypatch):
  """The run stops within an epoch and resumes to the same bits. λ = 0 is the arm without the own regularizer."""
  config = make_config(
    data__source='digits', data__fraction=0.1, data__crop_padding=1, data__flip=False,
    space__operations=('none', 'shift', 'nor_conv_1x1'), search__steps_per_dispatch=1,
    search__regularizers=('beta_decay', 'spread'), search__spread_weight=1.0, search__spread_schedule='constant',
    search__weight_optimizer='weight_nesterov', search__alpha_optimizer='alpha_lion',
    search__alpha_learning_rate=0.05, relaxation__sampling='noisy', population__spread_weight=(0.0, 20.0),
  )  # fmt: skip
  whole = bd.run_search(config, tmp_path / 'whole')
  with monkeypatch.context() as patched, pytest.raises(Stopped):
    patched.setattr(session, 'catch_stop_signals', stop_at_once)
    bd.run_search(config, tmp_path / 'stopped')
  assert not (tmp_path / 'stopped' / 'result.json').exists() and not read_rows(tmp_path / 'stopped')
  assert 'Interrupted' in (tmp_path / 'stopped' / 'report.html').read_text()

  resumed = bd.run_search(config, tmp_path / 'stopped')
  states = [final_state(tmp_path / name) for name in ('stopped', 'whole')]
  jax.tree.map(np.testing.assert_array_equal, *states)
  assert resumed.genotypes == whole.genotypes
  without, with_spread = whole.values['members']
  assert (without['spread_weight'], with_spread['spread_weight']) == (0.0, 20.0)
  assert any(np.any(alphas[0] != alphas[1]) for alphas in states[0]['alphas'].values())
  weights = [[row['regularizer_weights'] for row in read_rows(tmp_path / name)] for name in ('stopped', 'whole')]
  assert weights[0] == weights[1] and {tuple(w.items()) for w in weights[0]} == {
    (('spread_weight', 0.0),),
    (('spread_weight', 20.0),),
  }
  page = html.unescape((tmp_path / 'stopped' / 'report.html').read_text())
  assert all(str(genotype) in page for genotype in whole.genotypes) and 'spread_weight' in page


def scaled(problem):
  """A hypergradient of one's own: the first-order one times a scalar."""
  values, gradient = bd.HYPERGRADIENTS['first_order'](problem)
  return values, jax.tree.map(lambda g: problem.scalars['factor'] * g, gradient)


@pytest.mark.full
@pytest.mark.parametrize(
  'method, scalar, values', [('finite_difference', 'distance', (1e-3, 10.0)), ('scaled', 'factor', (0.0, 1.0))]
)
def test_a_population_varies_the_scalars_of_a_hypergradient(method, scalar, values, tmp_path, monkeypatch):
  monkeypatch.setitem(bd.SCALARS, 'factor', 1.0)
  monkeypatch.setitem(bd.HYPERGRADIENTS, 'scaled', scaled)
  changes = {'hypergradient__method': method, f'population__{scalar}': values, 'search__alpha_weight_decay': 0.0}
  found = run(make_config(**changes, search__regularizers=(), search__alpha_learning_rate=0.1), tmp_path)
  assert [member[scalar] for member in found['members']] == list(values)
  first, second = (
    np.concatenate([alphas[i].ravel() for alphas in final_state(tmp_path)['alphas'].values()]) for i in (0, 1)
  )
  assert np.abs(first - second).max() > 1e-3
  if method == 'scaled':
    assert np.abs(first).max() < 0.01 < np.abs(second).max()  # without a gradient α stays where it began

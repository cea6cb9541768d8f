"""What the named methods of configs/nas_bench_201.py become: the parts of the step and the values of each epoch."""

import importlib.util
import pathlib

import numpy as np
import pytest

from beta_darts_jax import NAS_BENCH_201, Relaxation
from beta_darts_jax.config import default
from beta_darts_jax.config.check import check
from beta_darts_jax.data import Dataset
from beta_darts_jax.method.hypergradients import second_order
from beta_darts_jax.method.regularizers import REGULARIZERS, from_penalty
from beta_darts_jax.search.schedule import Member
from beta_darts_jax.search.setup import make_schedule, make_search_setup

FILE = pathlib.Path(__file__).parents[2] / 'configs' / 'nas_bench_201.py'
spec = importlib.util.spec_from_file_location('nas_bench_201', FILE)
nas_bench_201 = importlib.util.module_from_spec(spec)
spec.loader.exec_module(nas_bench_201)

IMAGES = np.zeros((256, 8, 8, 3), np.uint8), np.zeros(256, np.int32)
DATASET = Dataset('made up', IMAGES, IMAGES, 10, (0.5,) * 3, (0.2,) * 3)
RELAXATIONS = {
  'beta_sdarts_rs': Relaxation(perturbation='random'),
  'sdarts_rs': Relaxation(perturbation='random'),
  'sdarts_adv': Relaxation(perturbation='adversarial'),
  'pc_darts': Relaxation(edges=NAS_BENCH_201.edges),
  'gdas': Relaxation('gumbel'),
  'drnas': Relaxation('dirichlet'),
  'darts_minus': Relaxation(auxiliary_skip=True),
}


@pytest.mark.parametrize('method', nas_bench_201.METHODS)
def test_a_method_differs_from_darts_in_what_its_name_says(method):
  setup = make_search_setup(check(nas_bench_201.get_config(f'cifar10,{method}')), DATASET)
  weights = ['beta_decay_weight'] * method.startswith('beta') + ['alignment_weight'] * (method == 'lambda_darts')
  assert [regularizer.weight for regularizer in setup.parts.regularizers] == weights
  hypergradient = getattr(setup.parts.hypergradient, 'func', setup.parts.hypergradient)
  assert (hypergradient is second_order) == (method == 'darts_second_order')
  assert setup.parts.flooding == (method == 'beta_darts_plus_plus')
  assert setup.parts.relaxation == RELAXATIONS.get(method, Relaxation())
  divisor, single_path = setup.supernet.partial_channels, setup.supernet.single_path
  assert (divisor, single_path) == (4 if method == 'pc_darts' else 1, method == 'gdas')
  weight_decay = setup.hyperparameters(setup.members[0], 0).weight_decay
  assert weight_decay == (81e-4 if method.endswith('rdarts_l2') else 3e-4)


def test_values_of_an_epoch():
  """ε is 0.03 + 0.27·e/E, τ falls from 10 to 0.1, the auxiliary skip from 1 to 0, and α waits 30 epochs."""
  schedule = make_schedule(check(nas_bench_201.get_config('cifar10,pc_darts')))
  first, before, after, middle = (schedule.hyperparameters(Member(seed=0), epoch) for epoch in (0, 29, 30, 50))
  assert [hyper.alpha_learning_rate for hyper in (first, before, after, middle)] == [0.0, 0.0, 3e-4, 3e-4]
  assert (first.perturbation, first.temperature, first.auxiliary_skip) == (0.03, 10.0, 1.0)
  assert [middle.perturbation, middle.temperature, middle.auxiliary_skip] == pytest.approx([0.165, 5.05, 0.5])
  assert middle.epoch == 50


def test_the_weight_of_an_unused_regularizer_is_0():
  """metrics.jsonl reports the λ that acted."""
  config = default()
  config.search.regularizers = ('l2',)
  hyper = make_schedule(check(config)).hyperparameters(Member(seed=0), 50)
  assert config.search.beta_decay_weight == 50 and hyper.beta_decay_weight == 0.0


def test_a_registered_regularizer_has_a_weight_of_its_own(monkeypatch):
  monkeypatch.setitem(REGULARIZERS, 'lasso', from_penalty(lambda alphas: 0.0, 'lasso_weight'))
  config = default()
  config.search.regularizers = ('beta_decay', 'lasso')
  config.search.lasso_weight, config.search.lasso_schedule = 2.0, 'linear'
  schedule = make_schedule(check(config))
  hyper = schedule.hyperparameters(Member(seed=0, varied={'lasso_weight': 4.0}), 25)
  assert (hyper.weight_of('beta_decay_weight'), hyper.weight_of('lasso_weight')) == (12.5, 1.0)

"""make_search_setup for the named methods of configs/nas_bench_201.py: the parts of the step."""

import numpy as np
import pytest

from beta_darts_jax import NAS_BENCH_201, Relaxation
from beta_darts_jax.config.check import check
from beta_darts_jax.config.named_methods import METHODS
from beta_darts_jax.data import Dataset
from beta_darts_jax.method.hypergradients import second_order
from beta_darts_jax.search.setup import make_search_setup
from configs import nas_bench_201

IMAGES = np.zeros((256, 8, 8, 3), np.uint8), np.zeros(256, np.int32)
DATASET = Dataset('made up', IMAGES, IMAGES, 10, (0.5,) * 3, (0.2,) * 3)
RELAXATIONS = {
  'beta_sdarts_rs': Relaxation(perturbation='random'),
  'sdarts_rs': Relaxation(perturbation='random'),
  'sdarts_adv': Relaxation(perturbation='adversarial'),
  'pc_darts': Relaxation(edges=NAS_BENCH_201.edges),
  'gdas': Relaxation('gumbel'),
  'proxyless': Relaxation('two_paths'),
  'snas': Relaxation('soft_gumbel'),
  'drnas': Relaxation('pathwise_dirichlet'),
  'fair_darts': Relaxation('sigmoid'),
  'darts_minus': Relaxation(auxiliary_skip=True),
}


@pytest.mark.parametrize('method', METHODS)
def test_make_search_setup_gives_a_named_method_its_parts(method):
  setup = make_search_setup(check(nas_bench_201.get_config(f'cifar10,{method}')), DATASET)
  weight = {'lambda_darts': ['alignment_weight'], 'fair_darts': ['zero_one_weight']}.get(method, [])
  weights = ['beta_decay_weight'] * method.startswith('beta') + weight
  assert [regularizer.weight for regularizer in setup.parts.regularizers] == weights
  assert (setup.parts.order == 'weights_first') == (method in ('gdas', 'proxyless', 'lambda_darts'))
  assert setup.supernet.undrawn_gradient == (method == 'gdas')
  assert (setup.selection.method, setup.selection.train_alpha) == (
    ('perturbation', True) if method == 'darts_pt' else ('argmax', False)
  )
  hypergradient = getattr(setup.parts.hypergradient, 'func', setup.parts.hypergradient)
  assert (hypergradient is second_order) == (method == 'darts_second_order')
  assert setup.parts.flooding == (method == 'beta_darts_plus_plus')
  assert setup.parts.relaxation == RELAXATIONS.get(method, Relaxation())
  divisor, single_path = setup.supernet.partial_channels, setup.supernet.single_path
  assert (divisor, single_path) == (4 if method == 'pc_darts' else 1, method in ('gdas', 'proxyless'))
  assert setup.supernet.paths == (2 if method == 'proxyless' else 1)
  hyper = setup.hyperparameters(setup.members[0], 0)
  assert (hyper.alpha_learning_rate == 0) == (method == 'pc_darts')  # its α waits 30 epochs
  assert hyper.weight_decay == (81e-4 if method.endswith('rdarts_l2') else 3e-4)

"""The costs of the operations are those of the derived networks, up to a fixed part."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beta_darts_jax import (
  NAS_BENCH_201,
  OPERATIONS,
  InputError,
  MobileNetwork,
  NasBench201Network,
  Network,
  SearchSpace,
  Supernet,
)
from beta_darts_jax.networks.costs import multiply_adds, operation_costs

SMALL = SearchSpace('small', 'darts', nodes=1, operations=('skip_connect', 'max_pool_3x3', 'sep_conv_3x3'))
CHAIN = SearchSpace('chain', 'mobile', nodes=2, operations=('mb_conv_3x3_e3', 'mb_conv_5x5_e3', 'skip_connect'))
# the space, the class of its networks, their depth and stem, and the size of the images
SPACES = {
  'nas_bench_201': (NAS_BENCH_201, NasBench201Network, {'cells_per_stage': 1}, (8, 12)),
  'darts': (SMALL, Network, {'layers': 3}, (8, 12)),
  'imagenet': (SMALL, Network, {'layers': 3, 'stem': 'imagenet'}, (32, 64)),
  'mobile': (CHAIN, MobileNetwork, {}, (8, 12)),
}


@pytest.mark.parametrize('name', SPACES)
def test_costs_of_two_cells_differ_as_the_counts_of_their_networks(name):
  space, network_class, depth, size = SPACES[name]
  supernet = Supernet(space, num_classes=10, channels=4, **depth)
  counted, summed = [], []
  for seed in (0, 1):
    genotype = space.random_genotype(np.random.default_rng(seed))
    network = network_class(genotype, num_classes=10, channels=4, **depth)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *size, 3)))
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes['params']))
    counted.append((parameters, multiply_adds(network, shapes, (*size, 3))))
    one_hot = space.one_hot(genotype)
    costs = [operation_costs(supernet, size, unit) for unit in ('parameters', 'multiply_adds')]
    summed.append([sum(np.vdot(one_hot[cell_type], of_cell[cell_type]) for cell_type in of_cell) for of_cell in costs])
  difference = np.subtract(*counted)
  assert difference.all()
  np.testing.assert_array_equal(np.subtract(*summed), difference)


def test_an_operation_and_a_unit_of_ones_own(monkeypatch):
  class Dense(nn.Module):
    channels: int
    stride: int
    affine: bool
    dtype: None

    @nn.compact
    def __call__(self, x, train, weight=None):
      return nn.Dense(self.channels)(x[:, :: self.stride, :: self.stride])

  monkeypatch.setitem(OPERATIONS, 'dense', Dense)
  space = SearchSpace('own', 'nas_bench_201', nodes=1, operations=('none', 'dense'))
  supernet = Supernet(space, num_classes=10, channels=2, cells_per_stage=3)
  # three stages of three cells with 2, 4 and 8 channels
  assert operation_costs(supernet, (4, 4), 'parameters')['cell'].tolist() == [[0, 3 * (2 * 3 + 4 * 5 + 8 * 9)]]
  assert operation_costs(supernet, (4, 4))['cell'].tolist() == [[0, 3 * 3 * 64]]
  widths = operation_costs(supernet, (4, 4), lambda operation: operation.width)['cell']
  assert widths.tolist() == [[3 * (4 + 2 + 1)] * 2]
  with pytest.raises(InputError, match="unit='flops': expected one of multiply_adds, parameters"):
    operation_costs(supernet, (4, 4), 'flops')

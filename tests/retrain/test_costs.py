"""count_costs: parameters and multiply-adds of a network."""

import jax
import jax.numpy as jnp
import numpy as np

from beta_darts_jax import NAS_BENCH_201, NasBench201, NasBench201Network
from beta_darts_jax.retrain.result import count_costs


def test_count_costs_equals_the_benchmark(table_path):
  """NAS-Bench-201 also counts the ten additions of the classifier's bias."""
  table, rng = NasBench201.load(table_path), np.random.default_rng(0)
  for _ in range(3):
    genotype = NAS_BENCH_201.random_genotype(rng)
    network = NasBench201Network(genotype, 10)
    variables = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    counts = count_costs(network, variables, (32, 32, 3))
    row = table[genotype]
    assert counts == {'parameters': row.parameters_cifar10, 'multiply_adds': row.flops_cifar10 - 10}

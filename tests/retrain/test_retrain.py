import jax
import jax.numpy as jnp
import numpy as np

from beta_darts_jax import NAS_BENCH_201, NasBench201, NasBench201Network
from beta_darts_jax.retrain.run import describe_network


def test_counts_are_the_benchmarks(table_path):
  """NAS-Bench-201 counts the ten additions of the classifier's bias too."""
  table, rng = NasBench201.load(table_path), np.random.default_rng(0)
  for _ in range(3):
    genotype = NAS_BENCH_201.random_genotype(rng)
    network = NasBench201Network(genotype, 10)
    variables = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    counts = describe_network(network, variables, (32, 32, 3))
    row = table[genotype]
    assert counts == {'parameters': row.parameters_cifar10, 'multiply_adds': row.flops_cifar10 - 10}

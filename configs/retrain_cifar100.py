"""Trains a cell of the DARTS family on CIFAR-100 by the protocol of configs/retrain_cifar10.py.

  python -m beta_darts_jax.main --config configs/retrain_cifar100.py --config.genotype=GENOTYPE

The published error of the cell of β-DARTS is 16.52 %. The cost is the same as on CIFAR-10.
"""

from beta_darts_jax.config import default_retrain


def get_config():
  config = default_retrain()
  config.name = 'retrain_cifar100'
  config.data.source = 'cifar100'
  return config

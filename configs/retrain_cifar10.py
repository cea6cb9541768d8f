"""Trains a cell of the DARTS family to the end on CIFAR-10: DARTS' protocol.

  python -m beta_darts_jax.main --config configs/retrain_cifar10.py --config.genotype=GENOTYPE

GENOTYPE is the folder of a search, a file, a published name (DARTS_V2, P_DARTS,
PC_DARTS_CIFAR, …) or the text `Genotype(normal=[…], …)`. 20 cells, C=36, 600 epochs
of batch 96, cosine from 0.025 to 0, cutout 16, drop path to 0.2, auxiliary head 0.4.
Published: β-DARTS' cell 2.53 ± 0.08 % error; DARTS_V2 has 3,349,342 parameters.
For an accelerator: on two CPU cores an epoch takes two to three hours. A proxy:
--config.train.epochs=10 --config.network.channels=8 --config.network.layers=8
--config.data.fraction=0.1.
"""

from beta_darts_jax.config import default_retrain


def get_config():
  return default_retrain()

"""Trains a cell of the DARTS family on CIFAR-10 by the protocol of DARTS.

  python -m beta_darts_jax.main --config configs/retrain_cifar10.py --config.genotype=GENOTYPE

GENOTYPE is the folder of a search, a file, a published name (DARTS_V2, P_DARTS,
PC_DARTS_CIFAR, …) or the text `Genotype(normal=[…], …)`. The network has 20 cells and
C=36. It is trained for 600 epochs with batch size 96. The learning rate follows a
cosine from 0.025 to 0. The cutout has 16 pixels, the drop path rate grows to 0.2, and
the auxiliary head has the weight 0.4. The published error of the cell of β-DARTS is
2.53 ± 0.08 %. The network of DARTS_V2 has 3,349,342 parameters. This size is for an
accelerator: on two CPU cores an epoch takes two to three hours. For a smaller training
add --config.train.epochs=10 --config.network.channels=8 --config.network.layers=8
--config.data.fraction=0.1.
"""

from beta_darts_jax.config import default_retrain


def get_config():
  return default_retrain()

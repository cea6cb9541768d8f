"""Trains a cell of NAS-Bench-201 as the benchmark did.

  python -m beta_darts_jax.main --config configs/retrain_nas_bench_201.py:DATASET --config.genotype=GENOTYPE

DATASET is cifar10, cifar100 or imagenet16_120. GENOTYPE is the folder of a search or
an arch string. The network has C=16 and N=5. It is trained for 200 epochs with batch
size 256 by SGD with Nesterov momentum. The learning rate follows a cosine from 0.1 to
0. Compare the result with the accuracy of the cell in the benchmark:
`python -m beta_darts_jax.spaces.nas_bench_201 query ARCH`. This size is for
accelerators.
"""

from beta_darts_jax.config import default_retrain
from beta_darts_jax.errors import InputError


def get_config(dataset: str = 'cifar10'):
  if dataset not in ('cifar10', 'cifar100', 'imagenet16_120'):
    raise InputError(f'retrain_nas_bench_201.py:{dataset}: expected cifar10, cifar100 or imagenet16_120')
  config = default_retrain()
  config.name = 'retrain_nas_bench_201'
  config.data.source = dataset
  config.data.cutout = 0
  config.data.crop_padding = 2 if dataset == 'imagenet16_120' else 4
  config.network.stem = 'nas_bench_201'
  config.network.channels = 16
  config.network.auxiliary_weight = 0.0
  config.train.epochs, config.train.batch_size = 200, 256
  config.train.learning_rate = 0.1
  config.train.schedule = 'cosine_steps'
  config.train.nesterov = True
  config.train.weight_decay = 5e-4
  config.train.clip_norm = 0.0
  config.train.drop_path_rate = 0.0
  return config

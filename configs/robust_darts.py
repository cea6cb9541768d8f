"""β-DARTS in the four spaces where DARTS collapses (RobustDARTS: S1 … S4).

  python -m beta_darts_jax.main --config configs/robust_darts.py:SPACE,DATASET[,proxy]

SPACE is s1, s2, s3 or s4, DATASET cifar10, cifar100 or svhn. The protocol is that
of configs/darts.py: eight cells, C=16, 50 epochs of batch 64, λ from 0 to 25.
S1 has two operations an edge, each edge its own; S2 {skip, sep 3×3}; S3 {none,
skip, sep 3×3}; S4 {noise, sep 3×3}. No result of β-DARTS in these spaces could be
read for this project. For accelerators: on two CPU cores a step takes seconds.
proxy is that of configs/darts.py, unrolled.
"""

import pathlib
import runpy

from beta_darts_jax.config import default
from beta_darts_jax.errors import InputError

_SPACES, _SOURCES = ('s1', 's2', 's3', 's4'), {'cifar10': 'cifar10', 'cifar100': 'cifar100', 'svhn': 'svhn_cropped'}


def get_config(argument: str = 's1,cifar10'):
  space, _, rest = argument.partition(',')
  dataset, *rest = rest.split(',')
  if space not in _SPACES or dataset not in _SOURCES or rest not in ([], ['proxy']):
    raise InputError(
      f'robust_darts.py:{argument}: allowed is SPACE,DATASET[,proxy] of {", ".join(_SPACES)} and {", ".join(_SOURCES)}'
    )
  config = default()
  config.name = f'robust_darts_{space}'
  config.data.source = _SOURCES[dataset]
  config.data.flip = dataset != 'svhn'  # a mirrored digit is another digit
  config.space.name = space
  config.supernet.unroll = False
  config.search.epochs = 50
  config.search.beta_decay_weight = 25.0
  if rest:
    darts = runpy.run_path(str(pathlib.Path(__file__).with_name('darts.py')))
    darts['proxy'](config, darts['TRAIN_IMAGES'][dataset])
    config.name = f'robust_darts_{space}_proxy'
    config.supernet.unroll = True
  return config

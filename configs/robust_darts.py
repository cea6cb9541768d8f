"""β-DARTS in four spaces where DARTS is known to collapse (S1 … S4 of RobustDARTS).

  python -m beta_darts_jax.main --config configs/robust_darts.py:SPACE,DATASET[,proxy]

SPACE is s1, s2, s3 or s4; DATASET is cifar10, cifar100 or svhn. The protocol is that of configs/darts.py: eight cells,
C=16, 50 epochs with batch size 64, λ from 0 to 25 on CIFAR. An edge has these candidate operations:

  S1  two, which differ from edge to edge
  S2  skip, sep 3×3
  S3  none, skip, sep 3×3
  S4  noise, sep 3×3

We know no published result of β-DARTS in these spaces. This size is for accelerators: on two CPU cores a step takes
several seconds. The proxy is that of configs/darts.py, with supernet.unroll=True.
"""

from beta_darts_jax.config import default
from beta_darts_jax.errors import InputError

_SPACES = ('s1', 's2', 's3', 's4')
_SOURCES = {'cifar10': 'cifar10', 'cifar100': 'cifar100', 'svhn': 'svhn_cropped'}
# the proxy of configs/darts.py; the values are repeated here so that the file can be copied without the other one
_PROXY = {
  'data.image_size': 16,
  'data.crop_padding': 2,
  'data.fraction': 0.1,
  'supernet.channels': 8,
  'supernet.layers': 5,
  'supernet.unroll': True,
  'search.epochs': 10,
  'search.evaluation_images': 1000,
}


def get_config(argument: str = 's1,cifar10'):
  space, _, rest = argument.partition(',')
  dataset, *rest = rest.split(',')
  if space not in _SPACES or dataset not in _SOURCES or rest not in ([], ['proxy']):
    raise InputError(
      f'robust_darts.py:{argument}: expected SPACE,DATASET[,proxy] with SPACE one of {", ".join(_SPACES)} and DATASET '
      f'one of {", ".join(_SOURCES)}'
    )
  config = default()
  config.name = f'robust_darts_{space}'
  config.data.source = _SOURCES[dataset]
  config.data.flip = dataset != 'svhn'  # a mirrored digit is another digit
  config.space.name = space
  config.supernet.unroll = False
  config.search.epochs = 50
  if rest:
    config.update_from_flattened_dict(_PROXY)
    config.name += '_proxy'
  return config

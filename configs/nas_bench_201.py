"""β-DARTS on NAS-Bench-201: the official protocol, or a proxy of it that fits two CPU cores.

  python -m beta_darts_jax.main --config configs/nas_bench_201.py:DATASET[,proxy]

DATASET is cifar10, cifar100, imagenet16_120 or svhn.

Full protocol: C=16, N=5, 100 epochs of batch 64, λ from 0 to 50. Published
(CIFAR-10, validation/test, the same cell for all three data sets): CIFAR-10
91.55/94.36, CIFAR-100 73.49/73.51, ImageNet16-120 46.37/46.34. For accelerators:
on two CPU cores a step takes seconds. CIFAR-100 uses its own images and the
same values. ImageNet16-120 has no official protocol: crops of 16 pixels with
padding 2. svhn: the same values, without flips (a mirrored digit is another).

proxy: N=1, images brought to 16×16, 10 epochs (3,900 steps on CIFAR) with α's
times matched to the official run's: rate η = 3e-3, λ_max = 50·S·η/11.73 and
b2 = 1 − 39.1/S for S steps. About a quarter of an hour on two cores. The scaled
values are computed for 10 epochs of batch 64: who overrides these scales
search.beta_decay_weight and search.alpha_betas too.
"""

from beta_darts_jax.config import default
from beta_darts_jax.errors import InputError

# images of the half that trains the weights
_TRAIN_IMAGES = {'cifar10': 25_000, 'cifar100': 25_000, 'imagenet16_120': 75_850, 'svhn': 36_628}


def get_config(argument: str = 'cifar10'):
  dataset, *rest = argument.split(',')
  if dataset not in _TRAIN_IMAGES or rest not in ([], ['proxy']):
    raise InputError(
      f'nas_bench_201.py:{argument}: allowed is DATASET or DATASET,proxy with DATASET one of {", ".join(_TRAIN_IMAGES)}'
    )
  config = default()
  config.data.source = {'svhn': 'svhn_cropped'}.get(dataset, dataset)
  if dataset == 'imagenet16_120':
    config.data.crop_padding = 2
  config.data.flip = dataset != 'svhn'
  if rest:
    proxy(config, _TRAIN_IMAGES[dataset])
  return config


def proxy(config, train_images):
  config.name = 'nas_bench_201_proxy'
  config.data.image_size = 16
  config.data.crop_padding = 2
  config.supernet.cells_per_stage = 1
  config.search.epochs = 10
  config.search.alpha_learning_rate = 3e-3
  steps = config.search.epochs * (train_images // config.search.batch_size)
  config.search.beta_decay_weight = round(50 * steps * config.search.alpha_learning_rate / 11.73, 2)
  config.search.alpha_betas = (0.5, round(1 - 39.1 / steps, 5))
  config.search.evaluation_images = 2048
  config.benchmark.kendall_cells = 200

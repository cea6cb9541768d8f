"""β-DARTS in the DARTS search space: the official protocol, or a proxy of it for two CPU cores.

  python -m beta_darts_jax.main --config configs/darts.py:DATASET[,proxy]

DATASET is cifar10, cifar100 or svhn. The supernet has eight cells, C=16 and seven
operations. --config.space.name=darts_with_none uses the eight operations of DARTS. The
search has 50 epochs with batch size 64. λ grows to 25. We do not know λ_max of the
paper for this space, so try several values of --config.search.beta_decay_weight.
Published errors of the retrained cell: 2.53 ± 0.08 % on CIFAR-10, with 3.8 M
parameters, and 16.52 % on CIFAR-100. This size is for accelerators: on two CPU cores a
step takes about ten seconds. This command retrains the found cell:

  python -m beta_darts_jax.main --config configs/retrain_cifar10.py --config.genotype=runs/darts-cifar10-0

proxy has five cells, C=8, a tenth of the images, resized to 16×16, and 10 epochs (390
steps on CIFAR). The values of α are scaled to the number of steps S: learning rate
η = 0.015, λ_max = 25·S·η/5.85 and b2 = 1 − 19.5/S (the second value of
search.alpha_betas). The proxy takes about a quarter of an hour on two cores. The scaled
values are right only for 10 epochs with batch size 64.
"""

from beta_darts_jax.config import default
from beta_darts_jax.errors import InputError

# number of images in the half that trains the weights
TRAIN_IMAGES = {'cifar10': 25_000, 'cifar100': 25_000, 'svhn': 36_628}


def get_config(argument: str = 'cifar10'):
  dataset, *rest = argument.split(',')
  if dataset not in TRAIN_IMAGES or rest not in ([], ['proxy']):
    raise InputError(
      f'darts.py:{argument}: expected DATASET or DATASET,proxy with DATASET one of {", ".join(TRAIN_IMAGES)}'
    )
  config = default()
  config.name = 'darts'
  config.data.source = {'svhn': 'svhn_cropped'}.get(dataset, dataset)
  config.data.flip = dataset != 'svhn'  # a mirrored digit is another digit
  config.space.name = 'darts'
  config.supernet.unroll = False
  config.search.epochs = 50
  config.search.beta_decay_weight = 25.0
  if rest:
    proxy(config, TRAIN_IMAGES[dataset])
  return config


def proxy(config, train_images):
  config.name = 'darts_proxy'
  config.data.image_size = 16
  config.data.crop_padding = 2
  config.data.fraction = 0.1
  config.supernet.channels = 8
  config.supernet.layers = 5
  config.search.epochs = 10
  config.search.alpha_learning_rate = 0.015
  match_alpha_time(config, train_images // 10)
  config.search.evaluation_images = 1000


def match_alpha_time(config, train_images):
  """Sets λ_max, unless it is 0, and b2 for the number of steps and the rate of α in `config`."""
  search = config.search
  steps = search.epochs * (train_images // search.batch_size)
  if search.beta_decay_weight:
    search.beta_decay_weight = round(25 * steps * search.alpha_learning_rate / 5.85, 2)
  search.alpha_betas = (0.5, round(1 - 19.5 / steps, 5))

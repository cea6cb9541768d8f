"""β-DARTS in the DARTS search space: the official protocol, or a proxy of it for two CPU cores.

  python -m beta_darts_jax.main --config configs/darts.py:DATASET[,proxy]

DATASET is cifar10, cifar100 or svhn. Eight cells, C=16, 50 epochs of batch 64,
seven operations (`--config.space.name=darts_with_none` for DARTS' own eight).
λ grows to 25 here; the paper's λ_max for this space is not known, so sweep
--config.search.beta_decay_weight. Published (CIFAR-10, the cell retrained by
configs/retrain_cifar10.py): error 2.53 ± 0.08 % with 3.8 M parameters; CIFAR-100:
16.52 %. For accelerators: on two CPU cores a step takes some ten seconds. The found
cell trains by

  python -m beta_darts_jax.main --config configs/retrain_cifar10.py --config.genotype=runs/darts-cifar10-0

proxy: five cells of C=8, a tenth of the images brought to 16×16, 10 epochs (390
steps on CIFAR) with α's times matched to the official run's: rate η = 0.015,
λ_max = 25·S·η/5.85 and b2 = 1 − 19.5/S for S steps. About a quarter of an hour on
two cores. The scaled values are computed for 10 epochs of batch 64.
"""

from beta_darts_jax.config import default
from beta_darts_jax.errors import InputError

# images of the half that trains the weights
TRAIN_IMAGES = {'cifar10': 25_000, 'cifar100': 25_000, 'svhn': 36_628}


def get_config(argument: str = 'cifar10'):
  dataset, *rest = argument.split(',')
  if dataset not in TRAIN_IMAGES or rest not in ([], ['proxy']):
    raise InputError(
      f'darts.py:{argument}: allowed is DATASET or DATASET,proxy with DATASET one of {", ".join(TRAIN_IMAGES)}'
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
  """λ_max, where there is one, and b2 for the steps and α's rate that `config` has."""
  search = config.search
  steps = search.epochs * (train_images // search.batch_size)
  if search.beta_decay_weight:
    search.beta_decay_weight = round(25 * steps * search.alpha_learning_rate / 5.85, 2)
  search.alpha_betas = (0.5, round(1 - 19.5 / steps, 5))

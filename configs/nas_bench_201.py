"""Differentiable searches on NAS-Bench-201: β-DARTS and its rivals, at full size or as a proxy for two CPU cores.

  python -m beta_darts_jax.main --config configs/nas_bench_201.py:DATASET[,proxy][,METHOD]

DATASET is cifar10, cifar100, imagenet16_120 or svhn.

Full protocol: C=16, N=5, 100 epochs with batch size 64, λ from 0 to 50. Published
accuracies (search on CIFAR-10, validation/test, the same cell for all three data
sets): CIFAR-10 91.55/94.36, CIFAR-100 73.49/73.51, ImageNet16-120 46.37/46.34. This
size is for accelerators: on two CPU cores a step takes seconds. CIFAR-100 uses its
own images and the same values. ImageNet16-120 has no official protocol; here it uses
crops of 16 pixels with padding 2. SVHN uses the same values without flips, since a
mirrored digit is another digit.

proxy: N=1, images resized to 16×16, 10 epochs (3,900 steps on CIFAR). The values of α
are scaled to the number of steps S: rate η = 3e-3, λ_max = 50·S·η/11.73 and
b2 = 1 − 39.1/S. It takes about a quarter of an hour on two cores. The scaled values
hold for CIFAR and 10 epochs with batch size 64. If you change one of these, compute
search.beta_decay_weight, search.alpha_betas and search.alpha_warmup_epochs again.

METHOD is beta_darts unless it is given. Apart from what is listed, a method uses the
protocol above, not the one of its own paper:

  beta_darts               Beta-Decay
  beta_darts_plus_plus     Beta-Decay and flooding; its level is not published, 0.3 nats is ours
  beta_rdarts_l2           Beta-Decay and weight decay 81e-4
  beta_sdarts_rs           Beta-Decay and random perturbation of β in the weight step, ε from 0.03 to 0.3
  darts                    first order
  darts_second_order       exact second order, at three times the cost
  rdarts_l2                weight decay 81e-4
  sdarts_rs, sdarts_adv    random perturbation of β, or an attack of seven steps
  pc_darts                 a quarter of the channels, edge weights, α starts after 30 % of the epochs
  gdas                     one sampled operation per edge, temperature from 10 to 0.1
  drnas                    β from a Dirichlet distribution
  darts_minus              an auxiliary skip connection that fades
  lambda_darts             alignment of the gradients of the cells; its weight of 0.125 is ours
"""

from beta_darts_jax.config import default
from beta_darts_jax.errors import InputError

# images of the half that trains the weights
TRAIN_IMAGES = {'cifar10': 25_000, 'cifar100': 25_000, 'imagenet16_120': 75_850, 'svhn': 36_628}

_L2, _RS = {'search.weight_decay': 81e-4}, {'relaxation.perturbation': 'random'}
METHODS = {  # the values that each method changes; λ is 0 unless the name starts with beta_
  'beta_darts': {},
  'beta_darts_plus_plus': {'search.flood_level': 0.3},
  'beta_rdarts_l2': _L2,
  'beta_sdarts_rs': _RS,
  'darts': {},
  'darts_second_order': {'hypergradient.method': 'second_order'},
  'rdarts_l2': _L2,
  'sdarts_rs': _RS,
  'sdarts_adv': {'relaxation.perturbation': 'adversarial'},
  'pc_darts': {
    'relaxation.partial_channels': 4, 'relaxation.edge_normalization': True, 'search.alpha_warmup_epochs': 30,
  },
  'gdas': {'relaxation.sampling': 'gumbel'},
  'drnas': {'relaxation.sampling': 'dirichlet'},
  'darts_minus': {'relaxation.auxiliary_skip': True},
  'lambda_darts': {'search.regularizers': ('lambda_darts',), 'search.alignment_weight': 0.125},
}  # fmt: skip


def get_config(argument: str = 'cifar10'):
  dataset, *rest = argument.split(',')
  is_proxy = rest[:1] == ['proxy']
  method = ','.join(rest[is_proxy:]) or 'beta_darts'
  if dataset not in TRAIN_IMAGES or method not in METHODS:
    raise InputError(
      f'nas_bench_201.py:{argument}: expected DATASET[,proxy][,METHOD] with DATASET one of '
      f'{", ".join(TRAIN_IMAGES)} and METHOD one of {", ".join(METHODS)}'
    )
  config = default()
  config.name = 'nas_bench_201' if method == 'beta_darts' else f'nas_bench_201_{method}'
  config.data.source = {'svhn': 'svhn_cropped'}.get(dataset, dataset)
  if dataset == 'imagenet16_120':
    config.data.crop_padding = 2
  config.data.flip = dataset != 'svhn'
  if not method.startswith('beta_'):
    config.search.beta_decay_weight = 0.0
  config.update_from_flattened_dict(METHODS[method])
  if is_proxy:
    proxy(config, TRAIN_IMAGES[dataset])
  return config


def proxy(config, train_images):
  config.name += '_proxy'
  config.data.image_size = 16
  config.data.crop_padding = 2
  config.supernet.cells_per_stage = 1
  config.search.alpha_warmup_epochs = config.search.alpha_warmup_epochs * 10 // config.search.epochs
  config.search.epochs = 10
  config.search.alpha_learning_rate = 3e-3
  match_alpha_time(config, train_images)
  config.search.evaluation_images = 2048
  config.benchmark.kendall_cells = 200


def match_alpha_time(config, train_images):
  """Sets λ_max, unless it is 0, and b2 for the number of steps and the rate of α in `config`."""
  search = config.search
  steps = search.epochs * (train_images // search.batch_size)
  if search.beta_decay_weight:
    search.beta_decay_weight = round(50 * steps * search.alpha_learning_rate / 11.73, 2)
  search.alpha_betas = (0.5, round(1 - 39.1 / steps, 5))

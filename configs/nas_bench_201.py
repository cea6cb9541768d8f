"""Differentiable searches on NAS-Bench-201: β-DARTS and other methods, at full size or as a proxy for two CPU cores.

  python -m beta_darts_jax.main --config configs/nas_bench_201.py:DATASET[,proxy][,METHOD]
  python -m beta_darts_jax.main --config configs/nas_bench_201.py:DATASET,METHOD,own

DATASET is cifar10, cifar100, imagenet16_120 or svhn.

The full protocol has C=16, N=5, 100 epochs with batch size 64, and λ from 0 to 50. One
cell, found on CIFAR-10, has these published accuracies (validation/test): CIFAR-10
91.55/94.36, CIFAR-100 73.49/73.51, ImageNet16-120 46.37/46.34. This size is for
accelerators: on two CPU cores a step takes 1.7 seconds, and the search 18 hours.
CIFAR-100 has the same values. There is no official protocol for ImageNet16-120; here
its images are cropped with padding 2. SVHN has the same values without flips, because a
mirrored digit is another digit.

proxy has N=1, images resized to 16×16, and 10 epochs (3,900 steps on CIFAR). The values
of α are scaled to the number of steps S: learning rate η = 3e-3, λ_max = 50·S·η/11.73
and b2 = 1 − 39.1/S (the second value of search.alpha_betas). The proxy takes about a
quarter of an hour on two cores. The scaled values are right only for all images of
DATASET and 10 epochs with batch size 64. If you change one of these, compute
search.beta_decay_weight, search.alpha_betas and search.alpha_warmup_epochs again.

The default METHOD is beta_darts. Each method uses the protocol above, not the protocol
of its own paper. It changes only what this list names:

  beta_darts               Beta-Decay
  beta_darts_plus_plus     Beta-Decay and flooding; the level is not published, we chose 0.3 nats
  beta_rdarts_l2           Beta-Decay and weight decay 81e-4
  beta_sdarts_rs           Beta-Decay and random perturbation of β in the weight step, ε from 0.03 to 0.3
  darts                    no Beta-Decay, first order
  darts_second_order       no Beta-Decay, exact second order at three times the cost
  rdarts_l2                weight decay 81e-4
  sdarts_rs, sdarts_adv    random perturbation of β, or an adversarial perturbation of seven steps
  pc_darts                 a quarter of the channels, edge weights, α starts after 30 % of the epochs
  gdas                     one sampled operation per edge, temperature from 10 to 0.1, weights first
  snas                     a soft sample of all operations, with the same temperature
  drnas                    β from a Dirichlet distribution
  darts_minus              an auxiliary skip connection whose weight falls to 0
  lambda_darts             alignment of the gradients of the cells, its weight from 0 to 0.125, weights first
  fair_darts               β = sigmoid(α) and the zero-one loss with the weight 10
  darts_pt                 the cell is selected by perturbation; α and the weights train between the decisions
  oles                     the weights of an operation stop when their two gradients no longer agree

own is the protocol of the method's official program on NAS-Bench-201, where it differs from the protocol above:

  gdas                     250 epochs, Nesterov momentum, weight decay 5e-4
  lambda_darts             learning rate 1e-4 of α, weight 0.25
  darts_pt                 five epochs between two decisions at learning rate 0.0025 with a new momentum; accuracies on
                           all images of α's half, augmented
"""

from beta_darts_jax.config import default
from beta_darts_jax.errors import InputError

# number of images in the half that trains the weights
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
  'gdas': {
    'relaxation.sampling': 'gumbel', 'relaxation.undrawn_gradient': True, 'search.order': 'weights_first',
  },
  'snas': {'relaxation.sampling': 'soft_gumbel'},
  'drnas': {'relaxation.sampling': 'pathwise_dirichlet'},
  'darts_minus': {'relaxation.auxiliary_skip': True},
  'lambda_darts': {
    'search.regularizers': ('lambda_darts',), 'search.alignment_weight': 0.125,
    'search.alignment_schedule': 'linear_to_last', 'search.order': 'weights_first',
  },
  'fair_darts': {
    'relaxation.sampling': 'sigmoid', 'search.regularizers': ('zero_one',), 'search.zero_one_weight': 10.0,
  },
  'darts_pt': {'derivation.method': 'perturbation', 'derivation.train_alpha': True},
  'oles': {'search.weight_optimizer': 'weight_sgd_oles'},
}  # fmt: skip
OWN = {  # the values that `own` changes, too
  'gdas': {
    'search.epochs': 250, 'search.weight_optimizer': 'weight_sgd_nesterov', 'search.weight_decay': 5e-4,
  },
  'lambda_darts': {'search.alpha_learning_rate': 1e-4, 'search.alignment_weight': 0.25},
  'darts_pt': {
    'derivation.tune_epochs': 5, 'derivation.learning_rate': 0.0025, 'derivation.reset_optimizer': True,
    'derivation.images': 0, 'derivation.augment': True,
  },
}  # fmt: skip


def get_config(argument: str = 'cifar10'):
  dataset, *rest = argument.split(',')
  is_proxy, is_own = rest[:1] == ['proxy'], rest[1:] == ['own']
  method = rest[0] if is_own else ','.join(rest[is_proxy:]) or 'beta_darts'
  if dataset not in TRAIN_IMAGES or method not in (OWN if is_own else METHODS):
    raise InputError(
      f'nas_bench_201.py:{argument}: expected DATASET[,proxy][,METHOD] or DATASET,METHOD,own with DATASET one of '
      f'{", ".join(TRAIN_IMAGES)} and METHOD one of {", ".join(METHODS)}; own is one of {", ".join(OWN)}'
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
  if is_own:
    config.name += '_own'
    config.update_from_flattened_dict(OWN[method])
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

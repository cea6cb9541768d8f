"""Differentiable searches in the DARTS space: β-DARTS and other methods, at full size or as a proxy for two CPU cores.

  python -m beta_darts_jax.main --config configs/darts.py:DATASET[,proxy][,METHOD]
  python -m beta_darts_jax.main --config configs/darts.py:DATASET,METHOD,own

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

METHOD is one of the methods that configs/nas_bench_201.py describes. The default is
beta_darts. Each method uses the protocol above, not the protocol of its own paper.
Two methods differ from their form on NAS-Bench-201: gdas gives a gradient to the drawn
operations alone, and drnas ranks the edges by the largest softmax(α).

own is the protocol of the method's official program in this space, where we have it:

  pc_darts      eight operations, batch size 256, learning rate 0.1 to 0, learning rate 6e-4 of α
  lambda_darts  batch size 96, weight 0.25
  darts_pt      five epochs between two decisions at learning rate 0.0025 with a new momentum; accuracies on all images
                of α's half, augmented

The own protocol of DrNAS in this space is missing: its supernet grows and loses operations during the search.
"""

from beta_darts_jax.config import default
from beta_darts_jax.errors import InputError

# number of images in the half that trains the weights
TRAIN_IMAGES = {'cifar10': 25_000, 'cifar100': 25_000, 'svhn': 36_628}


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
    'relaxation.partial_channels': 4, 'relaxation.edge_normalization': True, 'search.alpha_warmup_epochs': 15,
  },
  'gdas': {'relaxation.sampling': 'gumbel', 'search.order': 'weights_first'},
  'snas': {'relaxation.sampling': 'soft_gumbel'},
  'drnas': {'relaxation.sampling': 'pathwise_dirichlet', 'relaxation.strength': 'softmax'},
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
  'pc_darts': {
    'space.name': 'darts_with_none', 'search.batch_size': 256, 'search.learning_rate': 0.1,
    'search.learning_rate_min': 0.0, 'search.alpha_learning_rate': 6e-4,
  },
  'lambda_darts': {'search.batch_size': 96, 'search.alignment_weight': 0.25},
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
      f'darts.py:{argument}: expected DATASET[,proxy][,METHOD] or DATASET,METHOD,own with DATASET one of '
      f'{", ".join(TRAIN_IMAGES)} and METHOD one of {", ".join(METHODS)}; own is one of {", ".join(OWN)}'
    )
  config = default()
  config.name = 'darts' if method == 'beta_darts' else f'darts_{method}'
  config.data.source = {'svhn': 'svhn_cropped'}.get(dataset, dataset)
  config.data.flip = dataset != 'svhn'  # a mirrored digit is another digit
  config.space.name = 'darts'
  config.supernet.unroll = False
  config.search.epochs = 50
  config.search.beta_decay_weight = 25.0 if method.startswith('beta_') else 0.0
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
  config.data.fraction = 0.1
  config.supernet.channels = 8
  config.supernet.layers = 5
  config.search.alpha_warmup_epochs = config.search.alpha_warmup_epochs * 10 // config.search.epochs
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

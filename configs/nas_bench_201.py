"""Differentiable searches on NAS-Bench-201: β-DARTS and other methods, at full size or as a proxy for two CPU cores.

  python -m beta_darts_jax.main --config configs/nas_bench_201.py:DATASET[,proxy][,METHOD]
  python -m beta_darts_jax.main --config configs/nas_bench_201.py:DATASET,METHOD,own

DATASET is cifar10, cifar100, imagenet16_120 or svhn.

The full protocol has C=16, N=5, and 100 epochs with batch size 64. λ grows by 0.5 per
390 steps, which are an epoch of CIFAR, to at most 50. One cell, found on CIFAR-10, has
these published accuracies (validation/test): CIFAR-10 91.55/94.36, CIFAR-100
73.49/73.51, ImageNet16-120 46.37/46.34. This size is for accelerators: on two CPU cores
a step takes 1.6 seconds, and the search with its evaluations 18 hours. CIFAR-100 has
the same values. There is no official protocol for ImageNet16-120; here its images are
cropped with padding 2. SVHN has the same values without flips, because a mirrored digit
is another digit.

proxy has C=8, images resized to 16×16, and 10 epochs (3,900 steps on CIFAR). It keeps
N=5, because shallower supernets find other cells, and it keeps all hyperparameters of
α. It takes about a quarter of an hour on two cores.

METHOD is a name of `beta-darts list methods`, by default beta_darts. Each method uses
the protocol above, not the protocol of its own paper. It changes only what this list
names:

  beta_darts               Beta-Decay
  beta_darts_plus_plus     Beta-Decay and flooding; the level is not published, we chose 0.3 nats
  beta_rdarts_l2           Beta-Decay and weight decay 81e-4
  beta_sdarts_rs           Beta-Decay and random perturbation of β in the weight step, ε from 0.03 to 0.3
  darts                    no Beta-Decay, first order
  darts_second_order       no Beta-Decay, exact second order at three times the cost
  rdarts_l2                weight decay 81e-4
  sdarts_rs, sdarts_adv    random perturbation of β, or an adversarial perturbation of seven steps
  pc_darts                 a quarter of the channels, edge weights, α starts after 30 % of the epochs
  gdas                     one sampled operation per edge, temperature from 10 to 0.1, weights first; operations that
                           are not drawn get a gradient, too
  proxyless                two sampled operations per edge for α, one for the weights; weights first; rates of α from
                           its program
  snas                     a soft sample of all operations, with the same temperature
  drnas                    β from a Dirichlet distribution
  darts_minus              an auxiliary skip connection whose weight falls to 0
  lambda_darts             alignment of the gradients of the cells, its weight from 0 to 0.125, weights first
  fair_darts               β = sigmoid(α) and the zero-one loss with the weight 10
  darts_pt                 the cell is selected by perturbation; α and the weights train between the decisions
  oles                     the weights of an operation stop when their two gradients no longer agree

own is the protocol of the method's official program on NAS-Bench-201:

  gdas                     250 epochs, Nesterov momentum, weight decay 5e-4
  lambda_darts             learning rate 1e-4 of α, weight 0.25
  darts_pt                 five epochs between two decisions at learning rate 0.0025 with a new momentum; accuracies on
                           all images of α's half, augmented
  sdarts_rs, sdarts_adv    the protocol above

The own protocol of drnas is missing: its supernet grows and loses operations during the
search. The programs of pc_darts, darts_minus, fair_darts and oles do not search on
NAS-Bench-201.
"""

from beta_darts_jax.config import default
from beta_darts_jax.config.named_methods import DARTS_PT_OWN, WITHOUT_OWN, apply_method, choose, shrink

DATASETS = ('cifar10', 'cifar100', 'imagenet16_120', 'svhn')

HERE = {  # the values of methods in this space
  'pc_darts': {'search.alpha_warmup_epochs': 30},
  'gdas': {'relaxation.undrawn_gradient': True},
}
OWN = {  # the values that `own` changes, too
  'sdarts_rs': {},
  'sdarts_adv': {},
  'gdas': {
    'search.epochs': 250, 'search.weight_optimizer': 'weight_sgd_nesterov', 'search.weight_decay': 5e-4,
  },
  'lambda_darts': {'search.alpha_learning_rate': 1e-4, 'search.alignment_weight': 0.25},
  'darts_pt': DARTS_PT_OWN,
}  # fmt: skip
_NO_PROGRAM = 'its program does not search on NAS-Bench-201'
WITHOUT_OWN_HERE = WITHOUT_OWN | dict.fromkeys(('pc_darts', 'darts_minus', 'fair_darts', 'oles'), _NO_PROGRAM)


def get_config(argument: str = 'cifar10'):
  choice = choose('nas_bench_201.py', argument, DATASETS, OWN, WITHOUT_OWN_HERE)
  config = default()
  config.name = 'nas_bench_201'
  if choice.dataset == 'imagenet16_120':
    config.data.crop_padding = 2
  apply_method(config, choice, HERE, OWN)
  if choice.is_proxy:
    config.search.evaluation_images = 2048
    shrink(config)
  return config

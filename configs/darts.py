"""Differentiable searches in the DARTS space: β-DARTS and other methods, at full size or as a proxy for two CPU cores.

  python -m beta_darts_jax.main --config configs/darts.py:DATASET[,proxy][,METHOD]
  python -m beta_darts_jax.main --config configs/darts.py:DATASET,METHOD,own

DATASET is cifar10, cifar100 or svhn. The supernet has eight cells, C=16 and seven
operations. --config.space.name=darts_with_none uses the eight operations of DARTS. The
search has 50 epochs with batch size 64. λ grows by 0.5 per 390 steps, to 25 on CIFAR.
We do not know λ of the paper for this space, so try several values of
--config.search.beta_decay_weight: λ after 39,000 steps, 50 by default. Published errors
of the retrained cell: 2.53 ± 0.08 % on CIFAR-10, with 3.8 M parameters, and 16.52 % on
CIFAR-100. This size is for accelerators: on two CPU cores a step takes about six
seconds. This command retrains the found cell:

  python -m beta_darts_jax.main --config configs/retrain_cifar10.py --config.genotype=runs/darts-cifar10-0

proxy has five cells, C=8, a tenth of the images, resized to 16×16, and 10 epochs (390
steps on CIFAR). The hyperparameters of α are those of the full size. So λ stays below
0.5. The proxy shows that everything works, in about a quarter of an hour on two cores.

METHOD is a name of `beta-darts list methods`. The default is beta_darts. Each method
uses the protocol above, not the protocol of its own paper. Three methods differ from
their form on NAS-Bench-201: gdas gives a gradient to the drawn operations alone, drnas
ranks the edges by the largest softmax(α), and lambda_darts updates α first.

own is the protocol of the method's official program in this space:

  gdas          six cells, eight operations, 250 epochs, batch size 256, Nesterov momentum, weight decay 5e-4
  pc_darts      eight operations, batch size 256, learning rate 0.1 to 0, learning rate 6e-4 of α
  lambda_darts  batch size 96, weight 0.25
  fair_darts    batch size 128, learning rate 0.005 to 0.001, learning rate 3e-3 and b1 = 0.9 of α
  darts_pt      five epochs between two decisions at learning rate 0.0025 with a new momentum; accuracies on all images
                of α's half, augmented
  oles          eight operations
  sdarts_rs, sdarts_adv, darts_minus    the protocol above

The own protocol of drnas is missing: its supernet grows and loses operations during the
search.
"""

from beta_darts_jax.config import default
from beta_darts_jax.config.named_methods import DARTS_PT_OWN, WITHOUT_OWN, apply_method, choose, shrink

DATASETS = ('cifar10', 'cifar100', 'svhn')

HERE = {  # the values of methods in this space
  'pc_darts': {'search.alpha_warmup_epochs': 15},
  'drnas': {'relaxation.strength': 'softmax'},
  'lambda_darts': {'search.order': 'alpha_first'},
}
OWN = {  # the values that `own` changes, too
  'sdarts_rs': {},
  'sdarts_adv': {},
  'gdas': {
    'space.name': 'darts_with_none', 'supernet.layers': 6, 'search.epochs': 250, 'search.batch_size': 256,
    'search.weight_optimizer': 'weight_sgd_nesterov', 'search.weight_decay': 5e-4,
  },
  'pc_darts': {
    'space.name': 'darts_with_none', 'search.batch_size': 256, 'search.learning_rate': 0.1,
    'search.learning_rate_min': 0.0, 'search.alpha_learning_rate': 6e-4,
  },
  'darts_minus': {},
  'lambda_darts': {'search.batch_size': 96, 'search.alignment_weight': 0.25},
  'fair_darts': {
    'search.batch_size': 128, 'search.learning_rate': 0.005, 'search.alpha_learning_rate': 3e-3,
    'search.alpha_betas': (0.9, 0.999),
  },
  'darts_pt': DARTS_PT_OWN,
  'oles': {'space.name': 'darts_with_none'},
}  # fmt: skip


def get_config(argument: str = 'cifar10'):
  choice = choose('darts.py', argument, DATASETS, OWN, WITHOUT_OWN)
  config = default()
  config.name = config.space.name = 'darts'
  config.supernet.unroll = False
  config.search.epochs = 50
  apply_method(config, choice, HERE, OWN)
  if choice.is_proxy:
    config.data.fraction = 0.1
    config.supernet.layers = 5
    config.search.evaluation_images = 1000
    shrink(config)
  return config

"""Which learning rate of α and which λ does a short search need? β-DARTS and DARTS, with official and sped-up values.

  make study STUDY=clock           # about eight hours on two cores, beside other programs

The official values are the published ones per step: α's rate is 3e-4, the second decay rate of its Adam is 0.999, and λ
grows by 0.5 per epoch of 390 steps. The sped-up values follow the rule of the proxies before this study. It matches the
path of α in the S = 3,900 steps of this search to that in the 39,100 steps of the official one: the rate is 3e-3, λ
grows to 50·S·0.003/11.73 = 49.87, and the decay rate is 1 − 39.1/S = 0.98997.

Everything else is the same in the four arms: NAS-Bench-201, CIFAR-10 at 16×16, N=5, C=8, 10 epochs, batch size 64. No
earlier run has used the six seeds. The primary measure is the mean percentile of the cells of the last 20 % of the
epochs. It is compared first between β-DARTS with the two sets of values, then between the methods with the official
values.
"""

from beta_darts_jax.config import default
from studies.study import Study

SEEDS = 6
FIRST_SEED = 300
OFFICIAL = {'alpha_learning_rate': 3e-4, 'alpha_betas': (0.5, 0.999), 'beta_decay_weight': 5.0}
SPED_UP = {'alpha_learning_rate': 3e-3, 'alpha_betas': (0.5, 0.98997), 'beta_decay_weight': 49.87}


def get_study():
  return Study(
    name='clock',
    question='Which learning rate of α and which λ does a short search need?',
    primary='percentile',
    arms={
      'beta_darts': arm('beta_darts', OFFICIAL),
      'beta_darts_sped_up': arm('beta_darts', SPED_UP),
      'darts': arm('darts', OFFICIAL),
      'darts_sped_up': arm('darts', SPED_UP),
    },
    references={'beta_darts': 'beta_darts_sped_up', 'darts': 'beta_darts', 'darts_sped_up': 'beta_darts_sped_up'},
  )


def arm(method, clock):
  config = small_supernet(method)
  config.search.epochs = 10
  config.search.update(clock)
  if method == 'darts':
    config.search.beta_decay_weight = 0.0
  config.search.seed = FIRST_SEED
  config.population.seeds = SEEDS
  return config


def small_supernet(method):
  """Returns the official config of NAS-Bench-201 on CIFAR-10, but with C=8 and images of 16×16."""
  config = default()
  config.name = f'clock_{method}'
  config.data.source = 'cifar10'
  config.data.image_size = 16
  config.data.crop_padding = 2
  config.supernet.channels = 8
  config.search.batch_size = 64
  config.search.beta_decay_schedule = 'linear'
  config.search.evaluation_images = 2048
  return config

"""Which learning rate of α and which λ does a small data set need? β-DARTS and DARTS on 5,000 images.

  make study STUDY=small           # we estimated three hours on two cores

A tenth of CIFAR-10 at 16×16, N=5, C=8, 100 epochs of 39 steps with batch size 64. The official values are the published
ones per step: α's rate is 3e-4, the second decay rate of its Adam is 0.999, and λ grows by 0.5 per 390 steps, to 5. The
sped-up values are those of the study `clock`, for the same number of steps. No earlier run has used the four seeds. The
primary measure is the mean percentile of the cells of the last 20 % of the epochs.
"""

from studies import clock
from studies.study import Study

SEEDS = 4
FIRST_SEED = 500


def get_study():
  return Study(
    name='small',
    question='Which learning rate of α and which λ does a search on 5,000 images need?',
    primary='percentile',
    arms={
      'beta_darts': arm('beta_darts', clock.OFFICIAL),
      'beta_darts_sped_up': arm('beta_darts', clock.SPED_UP),
      'darts': arm('darts', clock.OFFICIAL),
      'darts_sped_up': arm('darts', clock.SPED_UP),
    },
    references={'beta_darts': 'beta_darts_sped_up', 'darts': 'beta_darts', 'darts_sped_up': 'beta_darts_sped_up'},
  )


def arm(method, values):
  config = clock.arm(method, values)
  config.name = f'small_{method}'
  config.data.fraction = 0.1
  config.search.epochs = 100
  config.search.seed = FIRST_SEED
  config.population.seeds = SEEDS
  return config

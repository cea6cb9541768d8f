"""S2 with the official values: DARTS and β-DARTS, six paired seeds that no earlier run has used.

  make study STUDY=s2_official     # about three hours on two cores

S2 is a space where DARTS is known to fill the cell with skip connections. Five cells, C=8, CIFAR-10 at 16×16, 13,000
images: an epoch has 101 steps of batch size 64, and the search 50 epochs. The hyperparameters of α are the published
ones per step: rate 3e-4, second decay rate 0.999, and λ grows by 0.5 per 390 steps, to 25·101/390 = 6.47. There is no
benchmark table of this space. The measure is the number of parameter-free operations among the eight of the normal
cell. If DARTS does not collapse at this size (four or more on average), the study says nothing about Beta-Decay, and
ends there.
"""

from beta_darts_jax.config import default
from studies.study import Study

SEEDS = 6
FIRST_SEED = 600
ENDED = 'The normal cells of plain DARTS do not collapse at this size.'


def get_study(space='s2', harm='skips', ended=ENDED):
  return Study(
    name=f'{space}_official',
    question=f'Does Beta-Decay keep {harm} out of the cells of {space.upper()} with the official values?',
    primary='parameter_free',
    arms={method: arm(space, method) for method in ('darts', 'beta_darts')},
    references={'beta_darts': 'darts'},
    ended=ended,
  )


def arm(space, method):
  config = default()
  config.name = f'{space}_official_{method}'
  config.data.source = 'cifar10'
  config.data.image_size = 16
  config.data.crop_padding = 2
  config.data.fraction = 0.26
  config.space.name = space
  config.supernet.channels = 8
  config.supernet.layers = 5
  config.search.epochs = 50
  config.search.batch_size = 64
  config.search.beta_decay_schedule = 'linear'
  config.search.beta_decay_weight = 6.47 if method == 'beta_darts' else 0.0
  config.search.evaluation_images = 1000
  config.search.seed = FIRST_SEED
  config.population.seeds = SEEDS
  return config

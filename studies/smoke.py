"""A tiny study that shows that the programs of this folder work. It says nothing about the methods.

make study STUDY=smoke          # a minute on two cores
"""

from beta_darts_jax.config import default
from studies.study import Study


def get_study():
  return Study(
    name='smoke',
    question='Do the programs for studies work?',
    primary='parameter_free',
    arms={'beta_darts': arm(28.0), 'darts': arm(0.0)},
    references={'beta_darts': 'darts'},
  )


def arm(beta_decay_weight):
  config = default()
  config.name = 'smoke'
  config.data.source = 'digits'
  config.data.fraction = 0.2
  config.data.crop_padding = 0
  config.data.flip = False
  config.supernet.channels = 2
  config.supernet.cells_per_stage = 1
  config.supernet.unroll = False
  config.search.epochs = 3
  config.search.batch_size = 16
  config.search.alpha_learning_rate = 0.1
  config.search.beta_decay_weight = beta_decay_weight
  config.population.seeds = 2
  return config

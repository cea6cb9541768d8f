"""How strong must Beta-Decay be? λ_max of 0, 5 and 50 in the official run's scale; four seeds of the centre.

make study STUDY=strength
"""

from studies import centre
from studies.study import Study


def get_study():
  return Study(
    name='strength',
    question='How strong must Beta-Decay be?',
    primary='percentile',
    arms={'tenth': arm()},
    references={'beta_darts': 'darts', 'tenth': 'darts'},
    borrowed={'beta_darts': 'centre/beta_darts', 'darts': 'centre/darts'},
  )


def arm():
  config = centre.arm('beta_darts')
  config.population.seeds = 4
  config.search.beta_decay_weight = round(config.search.beta_decay_weight / 10, 2)
  return config

"""The central study: β-DARTS and DARTS at the proxy, six paired seeds that no earlier run has used.

  make study STUDY=centre

The primary measure is the mean percentile of the cells of the last 20 % of the epochs.
"""

from studies import proxy
from studies.study import Study

SEEDS = 6
FIRST_SEED = 200


def get_study():
  return Study(
    name='centre',
    question='Does Beta-Decay find better cells than plain DARTS?',
    primary='percentile',
    arms={method: arm(method) for method in ('beta_darts', 'darts')},
    references={'beta_darts': 'darts'},
  )


def arm(method):
  config = proxy.get_config(method)
  config.search.seed = FIRST_SEED
  config.population.seeds = SEEDS
  return config

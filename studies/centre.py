"""The centre: six paired seeds of β-DARTS and DARTS at the proxy of the pilot, seeds that no run has seen before.

  make study STUDY=centre

The primary measure is the mean percentile of the cells of the last 20 % of the epochs.
"""

import pathlib
import runpy

SEEDS = 6
FIRST_SEED = 200


def get_study():
  return {
    'question': 'Does Beta-Decay find better cells than plain DARTS?',
    'reference': 'darts',
    'primary': 'percentile',
    'arms': {method: arm(method) for method in ('beta_darts', 'darts')},
  }


def arm(method):
  config = runpy.run_path(str(pathlib.Path(__file__).parent / 'proxy.py'))['get_config'](method)
  config.search.seed = FIRST_SEED
  config.population.seeds = SEEDS
  return config

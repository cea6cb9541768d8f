"""How strong must Beta-Decay be? The official λ_max 0, 5 and 50, scaled as in the proxy; four of the centre's seeds.

make study STUDY=strength
"""

import pathlib
import runpy


def get_study():
  return {
    'question': 'How strong must Beta-Decay be?',
    'reference': 'darts',
    'primary': 'percentile',
    'borrowed': {'beta_darts': 'centre/beta_darts', 'darts': 'centre/darts'},
    'arms': {'tenth': arm()},
  }


def arm():
  config = runpy.run_path(str(pathlib.Path(__file__).with_name('centre.py')))['arm']('beta_darts')
  config.population.seeds = 4
  config.search.beta_decay_weight = round(config.search.beta_decay_weight / 10, 2)
  return config

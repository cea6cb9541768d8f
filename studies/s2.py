"""S2, where DARTS fills the cell with skip connections: six paired seeds of β-DARTS and DARTS at the pilot's proxy.

  make study STUDY=s2

There is no table of this space: what counts is the skips among the normal cell's eight operations.
"""

import pathlib
import runpy

FRACTION = 0.4  # by the rule of pilot_robust


def get_study(space='s2', harm='skips'):
  return {
    'question': f'Does Beta-Decay keep {harm} out of the cells of {space.upper()}?',
    'reference': 'darts',
    'primary': 'parameter_free',
    'arms': {method: arm(space, method) for method in ('beta_darts', 'darts')},
  }


def arm(space, method):
  path = pathlib.Path(__file__).with_name('pilot_robust.py')
  config = runpy.run_path(str(path))['arm'](space, FRACTION, beta_decay=method == 'beta_darts')
  config.search.seed = 200
  config.population.seeds = 6
  return config

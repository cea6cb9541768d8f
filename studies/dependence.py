"""Is β-DARTS less dependent on its setting than DARTS? The centre's proxy with one thing changed at a time.

  make study STUDY=dependence

Three of the centre's seeds an arm, which is to describe, not to test (three pairs cannot go below p = 0.25); λ_max and
b2 follow the number of steps, as everywhere. A change costs a method what it takes from the mean percentile of the same
seeds at the proxy itself.
"""

import pathlib
import runpy

CHANGES = {  # name → values
  'half_data': {'data.fraction': 0.5},
  'half_epochs': {'search.epochs': 5},
  'half_channels': {'supernet.channels': 8},
  'fewer_cells': {'supernet.cells_per_stage': 1},
}
METHODS = ('beta_darts', 'darts')


def get_study():
  arms = {f'{change}_{method}': (change, method) for change in CHANGES for method in METHODS}
  return {
    'question': 'Is β-DARTS less dependent on its setting?',
    'reference': {name: method for name, (_, method) in arms.items()},
    'primary': 'percentile',
    'borrowed': {method: f'centre/{method}' for method in METHODS},
    'arms': {name: arm(*of) for name, of in arms.items()},
  }


def arm(change, method):
  config = runpy.run_path(str(pathlib.Path(__file__).with_name('centre.py')))['arm'](method)
  config.population.seeds = 3
  config.update_from_flattened_dict(CHANGES[change])
  nas_bench_201 = runpy.run_path(str(pathlib.Path(__file__).parents[1] / 'configs' / 'nas_bench_201.py'))
  nas_bench_201['match_alpha_time'](config, int(25_000 * config.data.fraction))
  return config

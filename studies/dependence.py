"""Does β-DARTS depend less on its setting than DARTS? The proxy of the centre with one change at a time.

  make study STUDY=dependence

Each arm has three seeds of the centre. The study describes and does not test: three pairs cannot give p below 0.25.
λ_max and b2 follow the number of steps. The cost of a change is the loss of mean percentile relative to the same seeds
at the unchanged proxy.
"""

from configs import nas_bench_201
from studies import centre
from studies.study import Study

CHANGES = {
  'half_data': {'data.fraction': 0.5},
  'half_epochs': {'search.epochs': 5},
  'half_channels': {'supernet.channels': 8},
  'fewer_cells': {'supernet.cells_per_stage': 1},
}
METHODS = ('beta_darts', 'darts')


def get_study():
  arms = {f'{change}_{method}': (change, method) for change in CHANGES for method in METHODS}
  return Study(
    name='dependence',
    question='Does β-DARTS depend less on its setting?',
    primary='percentile',
    arms={name: arm(change, method) for name, (change, method) in arms.items()},
    references={name: method for name, (_, method) in arms.items()},
    borrowed={method: f'centre/{method}' for method in METHODS},
  )


def arm(change, method):
  config = centre.arm(method)
  config.population.seeds = 3
  config.update_from_flattened_dict(CHANGES[change])
  train_images = nas_bench_201.TRAIN_IMAGES['cifar10']
  nas_bench_201.match_alpha_time(config, int(train_images * config.data.fraction))
  return config

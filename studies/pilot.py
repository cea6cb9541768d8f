"""The pilot: in which proxy does plain DARTS collapse? Only λ = 0, seeds 100 and 101; no β-DARTS run is looked at.

  make study STUDY=pilot

The settings are ordered by cost. Each has ten epochs on all 50,000 images of CIFAR-10 at 16×16 (3,900 steps), C=16 and
b2 = 1 − 39.1/S. The proxy of the centre is the first setting in which both seeds end with three or more parameter-free
edges.
"""

from configs import nas_bench_201
from studies.study import Study

SETTINGS = {  # name → (cells per stage, learning rate of α)
  'n1_rate_3e-3': (1, 3e-3),
  'n1_rate_1e-2': (1, 1e-2),
  'n2_rate_1e-2': (2, 1e-2),
}


def get_study():
  cheapest, *others = SETTINGS
  return Study(
    name='pilot',
    question='In which proxy does plain DARTS collapse?',
    primary='parameter_free',
    arms={name: arm(*setting) for name, setting in SETTINGS.items()},
    references=dict.fromkeys(others, cheapest),
  )


def arm(cells_per_stage, alpha_learning_rate):
  config = nas_bench_201.get_config('cifar10,proxy,darts')
  config.name = 'pilot'
  config.supernet.cells_per_stage = cells_per_stage
  config.search.alpha_learning_rate = alpha_learning_rate
  config.search.seed = 100
  config.population.seeds = 2
  config.benchmark.kendall_cells = 0
  return config

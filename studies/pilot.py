"""The pilot: in which proxy does plain DARTS collapse? λ = 0 only, seeds 100 and 101; nothing of β-DARTS is looked at.

  make study STUDY=pilot

Settings from the cheapest on, each ten epochs on all 50,000 images of CIFAR-10 at 16×16 (3,900 steps), C=16, α's b2 =
1 − 39.1/S. The centre's proxy is the first in which both seeds end with three or more parameter-free edges.
"""

import pathlib
import runpy

SETTINGS = {  # name → (cells a stage, α's learning rate)
  'n1_rate_3e-3': (1, 3e-3),
  'n1_rate_1e-2': (1, 1e-2),
  'n2_rate_1e-2': (2, 1e-2),
}


def get_study():
  return {
    'question': 'In which proxy does plain DARTS collapse?',
    'reference': 'n1_rate_3e-3',
    'primary': 'parameter_free',
    'arms': {name: arm(*setting) for name, setting in SETTINGS.items()},
  }


def arm(cells_per_stage, alpha_learning_rate):
  get_config = runpy.run_path(str(pathlib.Path(__file__).parent.parent / 'configs' / 'nas_bench_201.py'))['get_config']
  config = get_config('cifar10,proxy,darts')
  config.name = 'pilot'
  config.supernet.cells_per_stage = cells_per_stage
  config.search.alpha_learning_rate = alpha_learning_rate
  config.search.seed = 100
  config.population.seeds = 2
  config.benchmark.kendall_cells = 0
  return config

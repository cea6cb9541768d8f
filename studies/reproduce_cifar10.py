"""The official protocol of NAS-Bench-201 at full size on CIFAR-10: β-DARTS (λ_max = 50) and DARTS, four seeds each.

  make reproduce                   # this, then CIFAR-100, on a GPU: two CPU cores would take six days for each

Published test accuracies of the benchmark's cells found on CIFAR-10, ± 0.00 over a number of seeds that is not known
here: β-DARTS 94.36 on CIFAR-10, 73.51 on CIFAR-100, 46.34 on ImageNet16-120; first-order DARTS 54.30, 15.61, 16.32.
"""

import pathlib
import runpy


def get_study(dataset='cifar10'):
  return {
    'question': f'What does the official protocol find on {dataset}?',
    'reference': 'darts',
    'primary': 'percentile',
    'arms': {method: arm(dataset, method) for method in ('beta_darts', 'darts')},
  }


def arm(dataset, method):
  get_config = runpy.run_path(str(pathlib.Path(__file__).parents[1] / 'configs' / 'nas_bench_201.py'))['get_config']
  config = get_config(f'{dataset},{method}')
  config.population.seeds = 4
  config.benchmark.kendall_cells = 0
  return config

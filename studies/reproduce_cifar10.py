"""The official protocol of NAS-Bench-201 at full size on CIFAR-10: β-DARTS (λ_max = 50) and DARTS, four seeds each.

  make reproduce                   # this, then CIFAR-100, on a GPU; two CPU cores would take six days for each

Published test accuracies of cells found on CIFAR-10, ± 0.00 over an unknown number of seeds: β-DARTS 94.36 on CIFAR-10,
73.51 on CIFAR-100 and 46.34 on ImageNet16-120; first-order DARTS 54.30, 15.61 and 16.32.

The arm beta_darts_seed_0 is one search on two CPU cores, which is kept as far as it has come. It evaluates 2,000 images
of α's half after each epoch. `python -m studies.keep RUN reproduce_cifar10/beta_darts_seed_0` keeps its new epochs.
"""

from configs import nas_bench_201
from studies.study import Study


def get_study(dataset='cifar10'):
  on_cpu = {'beta_darts_seed_0': '48735b7'} if dataset == 'cifar10' else {}
  return Study(
    name=f'reproduce_{dataset}',
    question=f'What does the official protocol find on {dataset}?',
    primary='percentile',
    arms={method: arm(dataset, method) for method in ('beta_darts', 'darts')},
    references={'beta_darts': 'darts'},
    closed_arms=on_cpu,
  )


def arm(dataset, method):
  config = nas_bench_201.get_config(f'{dataset},{method}')
  config.population.seeds = 4
  config.benchmark.kendall_cells = 0
  return config

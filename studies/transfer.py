"""Does a cell found on one data set do well on the others? Compare all three test columns of every arm.

  make study STUDY=transfer

The proxy on CIFAR-100 and ImageNet16-120 with three seeds of the centre per arm, next to the centre on CIFAR-10. The
study describes and does not test. λ_max and b2 follow the number of steps. Both data sets must be the real ones,
prepared in TFDS_DATA_DIR.
"""

from studies import centre, proxy
from studies.study import Study

DATASETS = ('cifar100', 'imagenet16_120')
METHODS = ('beta_darts', 'darts')


def get_study():
  arms = {f'{dataset}_{method}': (dataset, method) for dataset in DATASETS for method in METHODS}
  return Study(
    name='transfer',
    question='Does a cell found on one data set do well on the others?',
    primary='percentile',
    arms={name: arm(dataset, method) for name, (dataset, method) in arms.items()},
    references={name: method for name, (_, method) in arms.items()},
    borrowed={method: f'centre/{method}' for method in METHODS},
  )


def arm(dataset, method):
  config = proxy.get_config(method, dataset)
  config.search.seed = centre.FIRST_SEED
  config.population.seeds = 3
  return config

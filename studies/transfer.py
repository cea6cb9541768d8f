"""Does a cell found on one data set do well on the others? Read all three columns of the table, and every arm's.

  make study STUDY=transfer

The proxy on CIFAR-100 and ImageNet16-120, three of the centre's seeds an arm, beside the centre's on CIFAR-10; it
describes, and does not test. λ_max and b2 follow the number of steps. Both data sets are to be the real ones:
TFDS_DATA_DIR must have them prepared.
"""

import pathlib
import runpy

DATASETS = ('cifar100', 'imagenet16_120')
METHODS = ('beta_darts', 'darts')


def get_study():
  arms = {f'{dataset}_{method}': (dataset, method) for dataset in DATASETS for method in METHODS}
  return {
    'question': 'Does a cell found on one data set do well on the others?',
    'reference': {name: method for name, (_, method) in arms.items()},
    'primary': 'percentile',
    'borrowed': {method: f'centre/{method}' for method in METHODS},
    'arms': {name: arm(*of) for name, of in arms.items()},
  }


def arm(dataset, method):
  centre = runpy.run_path(str(pathlib.Path(__file__).with_name('centre.py')))
  config = runpy.run_path(str(pathlib.Path(__file__).with_name('proxy.py')))['get_config'](method, dataset)
  config.search.seed = centre['FIRST_SEED']
  config.population.seeds = 3
  return config

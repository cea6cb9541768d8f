"""Parity of distributions: do this program and PyTorch's search, each from its own random numbers, end with the same α?

  make study STUDY=parity          # after: python benchmarks/torch_search.py, for the arms it borrows

A small proxy in float32 on scikit-learn's digits: C=8, N=1, 440 steps, twenty seeds an arm. Stated before the first
run: the two programs count as equivalent if the root mean square, over the 30 centred logits of the final α, of the
difference of the programs' means is below MARGIN, in standard deviations over seeds, with 95 % confidence.
"""

import pathlib
import runpy

SEEDS = 20
MARGIN = 1.0
METHODS = {'beta_darts': 28.0, 'darts': 0.0}


def get_study():
  return {
    'question': 'Does this program search as PyTorch does?',
    'reference': {'beta_darts': 'darts', 'torch_beta_darts': 'torch_darts'},
    'primary': 'parameter_free',
    'borrowed': {f'torch_{method}': f'parity/torch_{method}' for method in METHODS},
    'arms': {method: arm(method) for method in METHODS},
    'equivalence': {
      'margin': MARGIN,
      # the methods beside, as a control: how far apart those are that do differ (added after the result)
      'pairs': [(m, f'torch_{m}') for m in METHODS] + [(f'{p}beta_darts', f'{p}darts') for p in ('', 'torch_')],
    },
  }


def arm(method):
  config = runpy.run_path(str(pathlib.Path(__file__).parent.parent / 'configs' / 'digits.py'))['get_config']()
  config.name = f'parity_{method}'
  config.data.crop_padding = 0
  config.search.beta_decay_weight = METHODS[method]
  config.retrain.epochs = 0
  config.population.seeds = SEEDS
  return config

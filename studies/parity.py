"""Do this program and a PyTorch search, each with its own random numbers, end with the same distribution of α?

  make study STUDY=parity          # after PYTHONPATH=. python benchmarks/torch_search.py, for the borrowed arms

A small proxy in float32 on scikit-learn's digits: C=8, N=1, 440 steps, twenty seeds per arm. The criterion was stated
before the first run. It is the root mean square, over the 30 centred logits of the final α, of the difference of the
two programs' means. The programs are equivalent if it is below MARGIN standard deviations over seeds, with 95 %
confidence.
"""

from beta_darts_jax.config import default
from studies.study import Study

SEEDS = 20
MARGIN = 1.0
METHODS = {'beta_darts': 28.0, 'darts': 0.0}


def get_study():
  programs = [(method, f'torch_{method}') for method in METHODS]
  # a control, added after the result: the distance of the two methods, which do differ
  methods = [('beta_darts', 'darts'), ('torch_beta_darts', 'torch_darts')]
  return Study(
    name='parity',
    question='Does this program search as PyTorch does?',
    primary='parameter_free',
    arms={method: arm(method) for method in METHODS},
    references={'beta_darts': 'darts', 'torch_beta_darts': 'torch_darts'},
    borrowed={f'torch_{method}': f'parity/torch_{method}' for method in METHODS},
    equivalence_pairs=(*programs, *methods),
    equivalence_margin=MARGIN,
  )


def arm(method):
  config = default()
  config.name = f'parity_{method}'
  config.data.source = 'digits'
  config.data.crop_padding = 0
  config.data.flip = False
  config.supernet.channels = 8
  config.supernet.cells_per_stage = 1
  config.supernet.unroll = False
  config.search.epochs = 20
  config.search.batch_size = 32
  config.search.alpha_learning_rate = 0.015
  config.search.alpha_betas = (0.5, 0.91)
  config.search.beta_decay_weight = METHODS[method]
  config.search.beta_decay_schedule = 'linear'
  config.retrain.update(channels=8, cells_per_stage=1, batch_size=32)  # no effect without a retraining, but kept so
  config.population.seeds = SEEDS
  return config

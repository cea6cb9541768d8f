"""The mechanism: is Beta-Decay more than early stopping of α? Four of the centre's seeds, its arms beside.

  make study STUDY=mechanism

frozen: λ = 0, and α stays from the epoch on in which β-DARTS' λ is past 3.6. decoupled: Beta-Decay beside Adam, not
through it. shuffled: α of β-DARTS learns from labels dealt out at random; its cells are to be those of chance, or what
Beta-Decay finds is no choice.
"""

import pathlib
import runpy


def get_study():
  return {
    'question': 'Is Beta-Decay more than early stopping of α?',
    'reference': 'beta_darts',
    'primary': 'percentile',
    'borrowed': {'beta_darts': 'centre/beta_darts', 'darts': 'centre/darts'},
    'arms': {
      'frozen': arm('darts', alpha_epochs=frozen_from()),
      'decoupled': arm('beta_darts', regularizers=('decoupled_beta_decay',)),
      'shuffled': arm('beta_darts', shuffled_alpha_labels=True),
    },
  }


def arm(method, **changes):
  config = runpy.run_path(str(pathlib.Path(__file__).parent / 'centre.py'))['arm'](method)
  config.population.seeds = 4
  config.search.update(changes)
  return config


def frozen_from():
  """Epochs that β-DARTS trains with λ up to 3.6."""
  search = arm('beta_darts').search
  weights = [search.beta_decay_weight * epoch / search.epochs for epoch in range(search.epochs)]
  return sum(weight <= 3.6 for weight in weights)

"""The mechanism: is Beta-Decay more than early stopping of α? Four of the centre's seeds, its arms beside.

  make study STUDY=mechanism

Its arms, after the centre's own two:
  frozen         λ = 0, and α stays from the epoch on in which β-DARTS' λ is past 3.6
  annealed       λ = 0, and α's rate falls as the centre's β-DARTS slowed α down: in each epoch by the length of the
                 centred α's way under Beta-Decay over that without, root mean squares over seeds, at most 1
  second_moment  Beta-Decay in Adam's second moment only: it damps, and does not pull
  decoupled      Beta-Decay beside Adam, not through it
  shuffled       α of β-DARTS learns from labels dealt out at random: its cells are to be those of chance, or what
                 Beta-Decay finds is no choice
"""

import json
import pathlib
import runpy

import numpy as np

from beta_darts_jax.method.regularizers import linear_ramp
from studies.measures import logits
from studies.run import histories

CENTRE = pathlib.Path(__file__).parents[1] / 'docs' / 'evidence' / 'centre' / 'runs'
HAS_RUN = all((CENTRE / f'{arm}.json').is_file() for arm in ('beta_darts', 'darts'))


def get_study():
  return {
    'question': 'Is Beta-Decay more than early stopping of α?',
    'reference': 'beta_darts',
    'primary': 'percentile',
    'borrowed': {'beta_darts': 'centre/beta_darts', 'darts': 'centre/darts'},
    'arms': {
      'frozen': arm('darts', alpha_epochs=frozen_from()),
      'decoupled': arm('beta_darts', regularizers=('decoupled_beta_decay',)),
      'second_moment': arm('beta_darts', regularizers=('second_moment_beta_decay',)),
      'shuffled': arm('beta_darts', shuffled_alpha_labels=True),
    }
    | ({'annealed': arm('darts', alpha_rate_factors=rate_factors())} if HAS_RUN else {}),
  }


def arm(method, **changes):
  config = runpy.run_path(str(pathlib.Path(__file__).parent / 'centre.py'))['arm'](method)
  config.population.seeds = 4
  config.search.update(changes)
  return config


def frozen_from():
  """Epochs that β-DARTS trains with λ up to 3.6."""
  search = arm('beta_darts').search
  weights = [linear_ramp(search.beta_decay_weight, epoch, search.epochs) for epoch in range(search.epochs)]
  return sum(weight <= 3.6 for weight in weights)


def rate_factors():
  """How much shorter the centre's β-DARTS made α's way, epoch by epoch."""
  with_decay, without = (ways(json.loads((CENTRE / f'{arm}.json').read_text())) for arm in ('beta_darts', 'darts'))
  return tuple(float(round(min(1.0, a / b), 4)) for a, b in zip(with_decay, without, strict=True))


def ways(record):
  """Root mean square over seeds of the length of centred α's way in each epoch; α starts at 0, but for 1e-3."""
  alphas = np.array([[logits(row) for row in rows] for rows in histories(record).values()])
  steps = np.diff(alphas, axis=1, prepend=0.0)
  return np.sqrt((steps**2).sum(axis=2).mean(axis=0))

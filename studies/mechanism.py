"""Is Beta-Decay more than early stopping of α? It reuses two arms of the centre, four seeds each.

  make study STUDY=mechanism

Further arms:
  frozen     λ = 0; α is fixed from the first epoch in which λ of β-DARTS exceeds 3.6
  decoupled  Beta-Decay acts on α directly, not through Adam

Closed arms, which only an earlier version can run (their values are in the kept configs):
  shuffled   β-DARTS whose α learns from randomly permuted labels; its cells should be no better than random cells
  annealed   λ = 0; the learning rate of α falls by epoch as much as Beta-Decay slowed α down in the centre. The factor
             is the length of the path of centred α with Beta-Decay over that without, root mean squares over seeds, at
             most 1
"""

from beta_darts_jax.method.regularizers import linear_ramp
from studies import centre
from studies.study import Study

LAST_COMMIT = '48735b7'  # the last one that can run the closed arms


def get_study():
  others = ('darts', 'frozen', 'decoupled', 'shuffled', 'annealed')
  return Study(
    name='mechanism',
    question='Is Beta-Decay more than early stopping of α?',
    primary='percentile',
    arms={
      'frozen': arm('darts', alpha_epochs=first_frozen_epoch()),
      'decoupled': arm('beta_darts', regularizers=('decoupled_beta_decay',)),
    },
    references=dict.fromkeys(others, 'beta_darts'),
    borrowed={'beta_darts': 'centre/beta_darts', 'darts': 'centre/darts'},
    closed_arms=dict.fromkeys(('shuffled', 'annealed'), LAST_COMMIT),
  )


def arm(method, **changes):
  config = centre.arm(method)
  config.population.seeds = 4
  config.search.update(changes)
  return config


def first_frozen_epoch():
  """Returns the number of epochs in which β-DARTS trains with λ up to 3.6."""
  search = arm('beta_darts').search
  weights = [linear_ramp(search.beta_decay_weight, epoch, search.epochs) for epoch in range(search.epochs)]
  return sum(weight <= 3.6 for weight in weights)

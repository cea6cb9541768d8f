"""Is Beta-Decay more than early stopping, when α runs ahead of the weights? The study is closed.

It uses two arms of the study `centre`, four seeds each. Further arms:
  frozen     λ = 0; α is fixed from the first epoch in which λ of β-DARTS exceeds 3.6
  decoupled  Beta-Decay acts on α directly, not through Adam
  shuffled   β-DARTS whose α learns from randomly permuted labels; its cells should be no better than random cells
  annealed   λ = 0; the learning rate of α falls by epoch as much as Beta-Decay slowed α down in the centre. The factor
             is the length of the path of centred α with Beta-Decay over that without, root mean squares over seeds, at
             most 1
"""

from studies.study import SPED_UP_COMMIT, Study


def get_study():
  others = ('darts', 'frozen', 'decoupled', 'shuffled', 'annealed')
  return Study(
    name='mechanism',
    question='Is Beta-Decay more than early stopping of α?',
    primary='percentile',
    arms={},
    references=dict.fromkeys(others, 'beta_darts'),
    borrowed={'beta_darts': 'centre/beta_darts', 'darts': 'centre/darts'},
    closed_arms=dict.fromkeys(('frozen', 'decoupled', 'shuffled', 'annealed'), SPED_UP_COMMIT),
  )

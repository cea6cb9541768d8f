"""Is Beta-Decay more than early stopping, when α is sped up? The study is closed.

It uses two arms of the study `centre`, four seeds each. Further arms:
  frozen     λ = 0; α is fixed from the first epoch in which λ of β-DARTS exceeds 3.6
  decoupled  Beta-Decay acts on α directly, not through Adam
  shuffled   β-DARTS whose α learns from randomly permuted labels; its cells should be no better than random cells
  annealed   λ = 0. The learning rate of α is multiplied in each epoch by a factor of at most 1: the length of the path
             of centred α with Beta-Decay, divided by that without, in the study `centre`. Each length is a root mean
             square over the seeds
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

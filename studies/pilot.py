"""In which sped-up proxy does plain DARTS collapse? Only λ = 0, seeds 100 and 101. The study is closed.

The settings have ten epochs on all 50,000 images of CIFAR-10 at 16×16 (S = 3,900 steps), C=16 and b2 = 1 − 39.1/S. The
proxy of the study `centre` is the first setting in which both seeds ended with three or more parameter-free edges.

  n1_rate_3e-3   N=1, α's rate 3e-3
  n1_rate_1e-2   N=1, α's rate 1e-2
  n2_rate_1e-2   N=2, α's rate 1e-2
"""

from studies.study import SPED_UP_COMMIT, Study

SETTINGS = ('n1_rate_3e-3', 'n1_rate_1e-2', 'n2_rate_1e-2')


def get_study():
  cheapest, *others = SETTINGS
  return Study(
    name='pilot',
    question='In which proxy does plain DARTS collapse?',
    primary='parameter_free',
    arms={},
    references=dict.fromkeys(others, cheapest),
    closed_arms=dict.fromkeys(SETTINGS, SPED_UP_COMMIT),
  )

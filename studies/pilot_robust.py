"""With how many images does plain DARTS collapse in S2 and S4? Only λ = 0, seeds 100 and 101. The study is closed.

Five cells, C=8, CIFAR-10 at 16×16, 10 epochs with a tenth, a fifth and two fifths of the images; α's rate is 0.015,
50 times the official one, and b2 = 1 − 19.5/S for S steps. The rule was stated before the first run: the studies `s2`
and `s4` take the smallest fraction with which both seeds of S2 end with four or more skip connections among the normal
cell's eight operations, or the largest fraction if there is none.
"""

from studies.study import SPED_UP_COMMIT, Study

FRACTIONS = (0.1, 0.2, 0.4)


def get_study():
  arms = {f'{space}_{fraction}': (space, fraction) for fraction in FRACTIONS for space in ('s2', 's4')}
  smallest = FRACTIONS[0]
  return Study(
    name='pilot_robust',
    question='With how many images does plain DARTS collapse in S2 and S4?',
    primary='parameter_free',
    arms={},
    references={name: f'{space}_{smallest}' for name, (space, fraction) in arms.items() if fraction > smallest},
    closed_arms=dict.fromkeys(arms, SPED_UP_COMMIT),
  )

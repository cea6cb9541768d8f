"""The pilot of S2 and S4: with how many images does plain DARTS collapse there? Only λ = 0, seeds 100 and 101.

  make study STUDY=pilot_robust

The proxy of configs/robust_darts.py (five cells, C=8, 16×16, 10 epochs) with a tenth, a fifth and two fifths of the
images of CIFAR-10. The learning rate of α is 0.015 and b2 = 1 − 19.5/S for S steps. The rule was stated before the
first run: the studies of S2 and S4 take the smallest fraction with which both seeds of S2 end with four or more skip
connections among the normal cell's eight operations, or the largest fraction if there is none.
"""

from configs import darts, robust_darts
from studies.study import Study

FRACTIONS = (0.1, 0.2, 0.4)


def get_study():
  arms = {f'{space}_{fraction}': (space, fraction) for fraction in FRACTIONS for space in ('s2', 's4')}
  smallest = FRACTIONS[0]
  return Study(
    name='pilot_robust',
    question='With how many images does plain DARTS collapse in S2 and S4?',
    primary='parameter_free',
    arms={name: arm(space, fraction) for name, (space, fraction) in arms.items()},
    references={name: f'{space}_{smallest}' for name, (space, fraction) in arms.items() if fraction > smallest},
  )


def arm(space, fraction, beta_decay=False):
  config = robust_darts.get_config(f'{space},cifar10,proxy')
  config.data.fraction = fraction
  if not beta_decay:
    config.search.beta_decay_weight = 0.0
  darts.match_alpha_time(config, int(darts.TRAIN_IMAGES['cifar10'] * fraction))
  config.search.seed = 100
  config.population.seeds = 2
  return config

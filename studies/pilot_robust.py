"""The pilot of S2 and S4: with how many images does plain DARTS collapse there? λ = 0 only, seeds 100 and 101.

  make study STUDY=pilot_robust

The proxy of configs/robust_darts.py (five cells, C=8, 16×16, 10 epochs) with a tenth, a fifth and two fifths of
CIFAR-10's images, α's rate 0.015 and its b2 = 1 − 19.5/S for S steps. Stated before the first run: studies of S2 and S4
take the least of these with which both seeds of S2 end with four or more skips of the normal cell's eight operations,
and the most if there is none.
"""

import pathlib
import runpy

FRACTIONS = (0.1, 0.2, 0.4)
_CONFIGS = ('robust_darts', 'darts')


def get_study():
  arms = {f'{space}_{fraction}': (space, fraction) for fraction in FRACTIONS for space in ('s2', 's4')}
  return {
    'question': 'With how many images does plain DARTS collapse in S2 and S4?',
    'reference': {
      name: f'{space}_{FRACTIONS[0]}' for name, (space, fraction) in arms.items() if fraction > FRACTIONS[0]
    },
    'primary': 'parameter_free',
    'arms': {name: arm(*of) for name, of in arms.items()},
  }


def arm(space, fraction, beta_decay=False):
  configs = {
    name: runpy.run_path(str(pathlib.Path(__file__).parents[1] / 'configs' / f'{name}.py')) for name in _CONFIGS
  }
  config = configs['robust_darts']['get_config'](f'{space},cifar10,proxy')
  config.data.fraction = fraction
  if not beta_decay:
    config.search.beta_decay_weight = 0.0
  configs['darts']['match_alpha_time'](config, int(25_000 * fraction))
  config.search.seed = 100
  config.population.seeds = 2
  return config

"""S2, where DARTS is known to fill the cell with skip connections: β-DARTS and DARTS, six paired seeds.

  make study STUDY=s2

There is no benchmark table of this space. The measure is the number of skip connections among the normal cell's eight
operations.
"""

from studies import pilot_robust
from studies.study import Study

FRACTION = 0.4  # chosen by the rule of pilot_robust


def get_study(space='s2', harm='skips'):
  return Study(
    name=space,
    question=f'Does Beta-Decay keep {harm} out of the cells of {space.upper()}?',
    primary='parameter_free',
    arms={method: arm(space, method) for method in ('beta_darts', 'darts')},
    references={'beta_darts': 'darts'},
  )


def arm(space, method):
  config = pilot_robust.arm(space, FRACTION, beta_decay=method == 'beta_darts')
  config.search.seed = 200
  config.population.seeds = 6
  return config

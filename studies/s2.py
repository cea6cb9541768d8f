"""S2 when α is sped up: β-DARTS and DARTS, six paired seeds. The study is closed.

The setting of the study `pilot_robust` with two fifths of the images. S2 is a space where DARTS is known to fill the
cell with skip connections. There is no benchmark table of this space. The measure is the number of skip connections
among the normal cell's eight operations.
"""

from studies.study import SPED_UP_COMMIT, Study


def get_study(space='s2', harm='skips'):
  return Study(
    name=space,
    question=f'Does Beta-Decay keep {harm} out of the cells of {space.upper()}?',
    primary='parameter_free',
    arms={},
    references={'beta_darts': 'darts'},
    closed_arms=dict.fromkeys(('beta_darts', 'darts'), SPED_UP_COMMIT),
  )

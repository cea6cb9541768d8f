"""S4 on the official clock: the study `s2_official`, with noise in place of skips.

make study STUDY=s4_official
"""

from studies import s2_official


def get_study():
  return s2_official.get_study('s4', 'noise', ended='')

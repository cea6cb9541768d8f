"""S4, whose edges choose between a separable convolution and noise: the study s2, with noise in place of skips.

make study STUDY=s4
"""

from studies import s2


def get_study():
  return s2.get_study('s4', 'noise')

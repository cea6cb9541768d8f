"""S4 when α is sped up: the study `s2`, with noise in place of skips. The study is closed."""

from studies import s2


def get_study():
  return s2.get_study('s4', 'noise')

"""β-DARTS and DARTS when α is sped up: N=2, six paired seeds 200 to 205. The study is closed.

CIFAR-10 at 16×16, NAS-Bench-201 with C=16 and N=2, 10 epochs = 3,900 steps of batch size 64, the cheapest setting of
the study `pilot` in which DARTS collapsed with both pilot seeds. α's rate is 1e-2, 33 times the official one. λ grows
to 166.24, by 16.6 an epoch, and the second decay rate of α's Adam is 0.98997. Only the commit of `closed_arms` can run
it.
"""

from studies.study import SPED_UP_COMMIT, Study


def get_study():
  return Study(
    name='centre',
    question='Does Beta-Decay find better cells than plain DARTS?',
    primary='percentile',
    arms={},
    references={'beta_darts': 'darts'},
    closed_arms=dict.fromkeys(('beta_darts', 'darts'), SPED_UP_COMMIT),
  )

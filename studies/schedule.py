"""What happens in the first 40 epochs of the official schedule of 100? β-DARTS, DARTS and a search with frozen α.

  make study STUDY=schedule        # we estimated eight hours on two cores

All values of the two levels are the published ones; λ grows by 0.5 an epoch. Only the supernet is smaller:
NAS-Bench-201, CIFAR-10 at 16×16, N=5, C=8, as in the study `clock`. The searches end after 40 of 100 epochs. No earlier
run has used the six seeds. The primary measure is the mean percentile of the cells of the last 20 % of these epochs.

  frozen     λ = 0; α is fixed from the first epoch in which λ of β-DARTS exceeds 3.6, that is after 8 epochs. The cell
             does not change after that, so the searches end after 10 epochs; the last two have the final cell.
"""

from studies import clock
from studies.study import Study

SEEDS = 6
FIRST_SEED = 400
LAST_EPOCH = 40
ALPHA_EPOCHS = 8  # of the arm `frozen`: λ = 0.5·epoch is 3.5 in the last of them, epoch 7 counted from 0


def get_study():
  return Study(
    name='schedule',
    question='What do β-DARTS and DARTS find in the first 40 of 100 official epochs?',
    primary='percentile',
    arms={
      'beta_darts': arm('beta_darts'),
      'darts': arm('darts'),
      'frozen': arm('darts', last_epoch=10, alpha_epochs=ALPHA_EPOCHS),
    },
    references={'beta_darts': 'darts', 'frozen': 'beta_darts'},
  )


def arm(method, last_epoch=LAST_EPOCH, alpha_epochs=0):
  config = clock.small_supernet(method)
  config.name = f'schedule_{method}'
  config.search.last_epoch = last_epoch
  config.search.alpha_epochs = alpha_epochs
  if method == 'darts':
    config.search.beta_decay_weight = 0.0
  config.search.seed = FIRST_SEED
  config.population.seeds = SEEDS
  return config

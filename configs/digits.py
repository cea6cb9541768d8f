"""A whole β-DARTS search on the digits of scikit-learn. It takes one to two minutes on two cores and downloads nothing.

  python -m beta_darts_jax.main --config configs/digits.py

The data are 1,797 images of 8×8 pixels: 719 train the weights, 719 train α, and 359 are
the test set. After the search the program trains and tests the found cell and three
random cells. The protocol is that of NAS-Bench-201 at a smaller size, with its
hyperparameters of α: λ grows by 0.5 per 390 steps. The run shows that everything works.
Digits are too easy: good and average cells have about the same accuracy.
"""

from beta_darts_jax.config import default


def get_config():
  config = default()
  config.name = 'digits'
  config.data.source = 'digits'
  config.data.crop_padding = 1
  config.data.flip = False  # a mirrored digit is another digit
  config.supernet.channels = 8
  config.supernet.cells_per_stage = 1
  config.supernet.unroll = False
  config.search.epochs = 20  # of 22 steps: 440
  config.search.batch_size = 32
  config.retrain.epochs = 6
  config.retrain.channels = 8
  config.retrain.cells_per_stage = 1
  config.retrain.batch_size = 32
  return config

"""Searches in the DARTS space on ImageNet, which streams: the protocol of PC-DARTS, with Beta-Decay and other methods.

  python -m beta_darts_jax.main --config configs/darts_imagenet.py:METHOD

METHOD is beta_darts, beta_pc_darts, darts or pc_darts. The default is beta_darts. The
protocol of the official program of PC-DARTS: 10 % of the images of each class train the
weights, and 2.5 % train α. The supernet has a stem of three convolutions of stride 2,
eight cells, C=16 and eight operations. The search has 50 epochs with batch size 1,024,
which is the sum over all devices. The learning rate grows to 0.5 in five epochs and
falls to 0. α moves from epoch 35 on, with learning rate 6e-3. Training images are random
resized crops of 224 pixels with flips, without colour jitter. pc_darts computes a half
of the channels, and learns a weight for each edge. beta_pc_darts is pc_darts with
Beta-Decay. λ grows to 25 over the epochs, as on CIFAR. We do not know λ_max of a paper for
ImageNet, so try several values of --config.search.beta_decay_weight. The published top-1
accuracy of the cell of PC-DARTS is 75.8 %.

Prepare imagenet2012 once where TensorFlow is installed (`tfds build imagenet2012
--file_format=array_record`), or take a folder: --config.data.source=folder:PATH. The
first search reads the labels of all records once. This command tries the search in a
minute on two cores, with a small supernet and any pictures:

  python -m beta_darts_jax.main --config configs/darts_imagenet.py:pc_darts --config.data.image_size=32 \\
    --config.data.resize=36 --config.search.batch_size=16 --config.search.epochs=2 \\
    --config.search.alpha_warmup_epochs=1 --config.supernet.channels=4 --config.supernet.layers=3 \\
    --config.space.nodes=1 --config.search.evaluation_images=16 --config.data.source=folder:PATH
"""

from beta_darts_jax.config import default
from beta_darts_jax.errors import InputError

PARTIAL = {'relaxation.partial_channels': 2, 'relaxation.edge_normalization': True}
METHODS = {'beta_darts': {}, 'beta_pc_darts': PARTIAL, 'darts': {}, 'pc_darts': PARTIAL}


def get_config(method: str = 'beta_darts'):
  if method not in METHODS:
    raise InputError(f'darts_imagenet.py:{method}: expected one of {", ".join(METHODS)}')
  config = default()
  config.name = 'darts_imagenet' if method == 'beta_darts' else f'darts_imagenet_{method}'
  config.data.source, config.data.crops = 'imagenet2012', 'resized'
  config.data.image_size, config.data.crop_padding = 224, 0
  config.data.color_jitter = (0.0, 0.0, 0.0, 0.0)
  config.data.fraction, config.data.alpha_fraction = 0.1, 0.025
  config.space.name = 'darts_with_none'
  config.supernet.stem, config.supernet.unroll = 'imagenet', False
  config.search.epochs, config.search.batch_size = 50, 1024
  config.search.learning_rate, config.search.learning_rate_min = 0.5, 0.0
  config.search.warmup_epochs, config.search.alpha_warmup_epochs = 5, 35
  config.search.alpha_learning_rate = 6e-3
  config.search.steps_per_dispatch = 5
  config.search.beta_decay_weight = 25.0 if method.startswith('beta_') else 0.0
  config.search.beta_decay_schedule = 'linear'
  config.update_from_flattened_dict(METHODS[method])
  return config

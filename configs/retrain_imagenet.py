"""Trains a cell of the DARTS family on ImageNet in the mobile setting of DARTS.

  python -m beta_darts_jax.main --config configs/retrain_imagenet.py --config.genotype=GENOTYPE

The network has 14 cells and C=48. It is trained for 250 epochs with batch size 1,024
over all devices. The learning rate reaches 0.5 after five epochs of warm-up and then
falls linearly. Weight decay is 3e-5, label smoothing 0.1. Training images are random
resized crops of 224 pixels with flips and colour jitter. The auxiliary head is off,
as in the official program; --config.network.auxiliary_weight=0.4 turns it on.
imagenet2012 must be prepared once where TensorFlow is installed (`tfds build
imagenet2012 --file_format=array_record`). --config.data.workers processes decode the
images; batch n does not depend on their number. Published: the cell of β-DARTS has
76.1 % top-1 (searched on CIFAR-10), or 75.8 % (searched on CIFAR-100, 5.4 M
parameters, 597 M multiply-adds). This takes days on one GPU.
"""

from beta_darts_jax.config import default_retrain


def get_config():
  config = default_retrain()
  config.name = 'retrain_imagenet'
  config.data.source = 'imagenet2012'
  config.data.image_size = 224
  config.data.crop_padding = config.data.cutout = 0
  config.network.stem = 'imagenet'
  config.network.channels, config.network.layers = 48, 14
  config.network.auxiliary_weight = 0.0
  config.train.epochs, config.train.batch_size = 250, 1024
  config.train.learning_rate = 0.5
  config.train.schedule = 'linear_tail'
  config.train.warmup_epochs = 5
  config.train.weight_decay = 3e-5
  config.train.label_smoothing = 0.1
  config.train.drop_path_rate = 0.0
  return config

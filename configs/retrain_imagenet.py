"""Trains a cell of the DARTS family to the end on ImageNet: DARTS' mobile setting.

  python -m beta_darts_jax.main --config configs/retrain_imagenet.py --config.genotype=GENOTYPE

14 cells, C=48, 250 epochs of batch 1,024 (over all devices), rate 0.5 after five
epochs of warm-up, linear to the end, decay 3e-5, label smoothing 0.1; random resized
crops of 224, flip, colour jitter. The auxiliary head is off, as in the official
program; --config.network.auxiliary_weight=0.4 turns it on. Needs TFDS's imagenet2012,
prepared once where TensorFlow is (`tfds build imagenet2012
--file_format=array_record`). Images are decoded by --config.data.workers processes;
batch n is the same whatever their number. Published: β-DARTS' cell 76.1 % top-1
(searched on CIFAR-10), 75.8 % (on CIFAR-100, 5.4 M parameters, 597 M multiply-adds).
Days on one GPU.
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

"""Trains a cell of the DARTS family on ImageNet in the mobile setting of DARTS.

  python -m beta_darts_jax.main --config configs/retrain_imagenet.py --config.genotype=GENOTYPE

The network has 14 cells and C=48. It is trained for 250 epochs. The batch size of 1,024
is the sum over all devices. The learning rate reaches 0.5 after five epochs of warm-up
and then falls linearly. Weight decay is 3e-5, and label smoothing is 0.1. Training
images are random resized crops of 224 pixels with flips and colour jitter. The
auxiliary head is off, as in the official program for ImageNet.
--config.network.auxiliary_weight=0.4 turns it on. Prepare imagenet2012 once where
TensorFlow is installed (`tfds build imagenet2012 --file_format=array_record`).
--config.data.workers is the number of processes that decode the images. It does not
change the batches. The published top-1 accuracies of cells of β-DARTS are 76.1 % for
the search on CIFAR-10 and 75.8 % for the search on CIFAR-100 (5.4 M parameters, 597 M
multiply-adds). We expect days on one GPU.
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

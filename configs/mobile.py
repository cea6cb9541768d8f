"""Searches in a space without cells, and the training of the networks that they find.

  python -m beta_darts_jax.main --config configs/mobile.py:DATASET[,proxy][,METHOD]
  python -m beta_darts_jax.main --config configs/mobile.py:DATASET,retrain --config.genotype=GENOTYPE

The space is a chain of six stages of inverted residuals, as in ProxylessNAS, with the
widths of MobileNetV2. Each of its 21 layers chooses the kernel size 3, 5 or 7 and the
expansion 3 or 6. The 15 layers that keep the shape may also be left out. MobileNetV2 is
one network of the space, with the name MOBILENET_V2.

DATASET is cifar10, cifar100 or svhn. The supernet has C=16, the widths of MobileNetV2
1.0. The search has 50 epochs with batch size 64, as that of β-DARTS in the DARTS space.
λ of beta_darts grows by 0.5 per 390 steps, to 25 on CIFAR. Nobody has published λ for
this space, so try several values of --config.search.beta_decay_weight. This size is for
accelerators. proxy has C=4, two layers in a stage, a tenth of the images, resized to
16×16, and 10 epochs. It keeps the hyperparameters of α, so λ stays below 0.5.

METHOD is a name of `beta-darts list methods`, without pc_darts, darts_minus and
lambda_darts, which need cells. proxyless is the two-path sampling of ProxylessNAS, with
the settings of α of its official program: Adam with learning rate 1e-3, b1 = 0 and no
decay. gdas and proxyless compute one or two operations of each layer, and compute them
again in the backward pass. In one stage with all seven operations they need 28 % of the
memory of darts (benchmarks/README.md). Search for cheap networks with the regularizer
cost:

  python -m beta_darts_jax.main --config configs/mobile.py:cifar10,gdas \\
    --config.search.regularizers="('cost',)" --config.search.cost_weight=0.3

retrain has DATASET cifar10, cifar100 or imagenet. On CIFAR a network is trained for 200
epochs with batch size 128 and weight decay 5e-4. The learning rate follows a cosine
from 0.1. On ImageNet it is trained for 300 epochs with batch size 256, weight decay
4e-5 and label smoothing 0.1. The learning rate follows a cosine from 0.05 after five
epochs of warm-up. MobileNetV2 has 3,504,872 parameters, 300.8 M multiply-adds and the
published top-1 accuracy 72.0 % there.

We have run neither a search at this size nor these trainings.
"""

from beta_darts_jax.config import default, default_retrain
from beta_darts_jax.config.named_methods import METHODS, apply_method, choose, shrink
from beta_darts_jax.errors import InputError

DATASETS = ('cifar10', 'cifar100', 'svhn')
NEED_CELLS = dict.fromkeys(('pc_darts', 'darts_minus', 'lambda_darts'), 'it needs cells')
RETRAINED = ('cifar10', 'cifar100', 'imagenet')
WITHOUT_OWN = dict.fromkeys(METHODS, 'its program does not search in this space, or its protocol is not taken over')


def get_config(argument: str = 'cifar10'):
  dataset, _, rest = argument.partition(',')
  if rest == 'retrain':
    return make_retraining(dataset)
  choice = choose('mobile.py', argument, DATASETS, {}, WITHOUT_OWN, NEED_CELLS)
  config = default()
  config.name = config.space.name = 'mobile'
  config.supernet.unroll = False
  config.search.epochs = 50
  apply_method(config, choice, {}, {})
  if choice.is_proxy:
    config.data.fraction = 0.1
    config.search.evaluation_images = 1000
    shrink(config)
    config.space.nodes, config.supernet.channels = 2, 4
  return config


def make_retraining(dataset: str):
  """Returns the config of a training. Raises InputError."""
  if dataset not in RETRAINED:
    raise InputError(f'mobile.py:{dataset},retrain: expected one of {", ".join(RETRAINED)}')
  config = default_retrain()
  config.name = 'retrain_mobile'
  config.data.source = dataset
  config.data.cutout = 0
  config.network.stem, config.network.channels = 'mobile', 16
  config.network.auxiliary_weight = config.train.drop_path_rate = config.train.clip_norm = 0.0
  config.train.nesterov = True
  config.train.schedule = 'cosine_steps'
  if dataset == 'imagenet':
    config.data.source = 'imagenet2012'
    config.data.image_size, config.data.crop_padding = 224, 0
    config.train.epochs, config.train.batch_size = 300, 256
    config.train.learning_rate, config.train.warmup_epochs = 0.05, 5
    config.train.weight_decay, config.train.label_smoothing = 4e-5, 0.1
  else:
    config.train.epochs, config.train.batch_size = 200, 128
    config.train.learning_rate, config.train.weight_decay = 0.1, 5e-4
  return config

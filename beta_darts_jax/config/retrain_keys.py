"""The keys of a retraining. Its defaults are the protocol of DARTS on CIFAR-10."""

import dataclasses

from beta_darts_jax.config.key import Key
from beta_darts_jax.config.shared_keys import CROPS, DATA, DTYPES, PARALLEL, RATE_SCHEDULES, RUN, WORKERS

# values of another key, for `only_with`
_IMAGENET = ('data.source', ('imagenet2012',))  # which streams
_DARTS = ('network.stem', ('cifar', 'imagenet'))
_NAS_BENCH_201 = ('network.stem', ('nas_bench_201',))

RETRAIN = (
  Key('task', 'retrain', 'kind of the run; a search has other keys', choices=('retrain',)),
  Key('name', 'retrain_cifar10', 'name of the run; the default folder is runs/NAME-DATASET-SEED'),
  Key('genotype', '', 'cell to train: folder of a search, file, published name (GDAS, …), index or text'),
  *(dataclasses.replace(key, default=16) if key.name == 'data.cutout' else key for key in DATA),
  *(dataclasses.replace(key, only_with=_IMAGENET) for key in (WORKERS, *CROPS)),
  Key(
    'network.stem', 'cifar', 'first layers of the network; nas_bench_201 and mobile also select the skeleton of their '
    'space', choices=('cifar', 'imagenet', 'nas_bench_201', 'mobile'),
  ),
  Key(
    'network.channels', 36, 'number of channels C of the first cells; mobile: 16 gives the widths of MobileNetV2 1.0',
    above=0, maximum=4096,
  ),
  Key('network.layers', 20, 'number of cells', above=0, maximum=256, only_with=_DARTS),
  Key('network.cells_per_stage', 5, 'number of cells N per stage', above=0, maximum=256, only_with=_NAS_BENCH_201),
  Key('network.auxiliary_weight', 0.4, 'weight of the loss of the auxiliary head; 0 leaves the head out'),
  Key(
    'network.auxiliary_skip', False, 'adds a skip connection to every edge; set automatically if the genotype is the '
    'folder of a search that had them',
  ),
  Key('network.dtype', 'float32', 'number format of the computation', choices=DTYPES),
  Key('train.seed', 0, 'seed of the weights and of the order of the images', maximum=2**32 - 1),
  Key('train.epochs', 600, 'number of epochs over the training images', above=0),
  Key('train.batch_size', 96, 'number of images in a batch', above=0),
  Key('train.learning_rate', 0.025, 'initial learning rate'),
  Key(
    'train.schedule', 'cosine_epochs', 'schedule of the learning rate (cosine_epochs: to 0, one value per epoch; '
    'cosine_steps: to 0, one value per step; linear_tail: linear, and slower in the last five epochs)',
    choices=RATE_SCHEDULES,
  ),
  Key('train.warmup_epochs', 0, 'number of first epochs in which the learning rate grows linearly'),
  Key('train.momentum', 0.9, 'momentum'),
  Key('train.nesterov', False, "uses Nesterov's form of momentum"),
  Key('train.weight_decay', 3e-4, 'weight decay, added to the gradient'),
  Key('train.clip_norm', 5.0, 'norm to which a longer gradient is clipped; 0 turns clipping off'),
  Key('train.label_smoothing', 0.0, 'fraction of the label that label smoothing spreads over all classes', below=1),
  Key('train.drop_path_rate', 0.2, 'drop path rate after the last epoch; it grows linearly from 0', below=1),
  Key(
    'train.ema_decay', 0.0, 'decay of a moving average of the weights, which is tested instead of the weights; 0 turns '
    'it off', below=1,
  ),
  Key(
    'train.steps_per_dispatch', 20, 'number of steps in one call of the compiled program; signals and the loss are '
    'checked between calls', above=0,
  ),
  *PARALLEL,
  *RUN,
)  # fmt: skip

"""Every value of a run with its default, and what is allowed.

The defaults are the NAS-Bench-201 protocol of β-DARTS on CIFAR-10; the files in
configs/ change some of them.
"""

import math

from ml_collections import ConfigDict

from beta_darts_jax.errors import InputError


def default() -> ConfigDict:
  """The config of the official search."""
  config = ConfigDict()
  config.name = 'nas_bench_201'  # names the run's folder

  config.data = ConfigDict()
  config.data.source = 'cifar10'  # digits, a name of TFDS, imagenet16_120, folder:PATH, npz:PATH
  config.data.data_dir = ''  # of TFDS; '' is $TFDS_DATA_DIR
  config.data.image_size = 0  # pixels to resize to; 0 leaves the images
  config.data.fraction = 1.0  # share of each half of the training images
  config.data.crop_padding = 4  # pixels; 0 is off
  config.data.flip = True
  config.data.cutout = 0  # pixels; 0 is off

  config.space = ConfigDict()
  config.space.name = 'nas_bench_201'  # or darts, darts_with_none, s1, s2, s3, s4 …
  config.space.nodes = 0  # … with other intermediate nodes; 0 keeps them
  config.space.operations = ()  # … with these candidates on every edge; () keeps them
  config.space.auxiliary_skip = False  # … with a skip connection beside every edge

  config.supernet = ConfigDict()
  config.supernet.channels = 16  # C of the first stage
  config.supernet.cells_per_stage = 5  # N, in NAS-Bench-201
  config.supernet.layers = 8  # cells, in the DARTS family
  config.supernet.unroll_edges = True  # False compiles several times faster; on CPU a step takes some 15 % longer
  config.supernet.dtype = 'float32'  # of the computation: float32 or bfloat16

  config.search = ConfigDict()
  config.search.seed = 0
  config.search.epochs = 100
  config.search.batch_size = 64
  config.search.learning_rate = 0.025  # of the weights, cosine per epoch …
  config.search.learning_rate_min = 0.001  # … down to this
  config.search.momentum = 0.9
  config.search.weight_decay = 3e-4
  config.search.clip_norm = 5.0
  config.search.alpha_learning_rate = 3e-4
  config.search.alpha_betas = (0.5, 0.999)
  config.search.alpha_weight_decay = 1e-3
  config.search.beta_decay_weight = 50.0  # λ_max: λ grows linearly from 0, λ_max·epoch/epochs
  config.search.evaluation_images = 0  # of the α half, at the end of an epoch; 0 is all of it
  config.search.steps_per_dispatch = 20

  config.checkpoint = ConfigDict()
  config.checkpoint.every_steps = 0  # besides the end of every epoch; 0 is off

  config.benchmark = ConfigDict()
  config.benchmark.table = ''  # CSV of NAS-Bench-201; '' is $NAS_BENCH_201_TABLE
  config.benchmark.kendall_cells = 0  # one-shot accuracies against the table, after the search; 0 is off
  config.benchmark.kendall_images = 2000

  config.retrain = ConfigDict()
  config.retrain.epochs = 0  # of the found cell, after the search; 0 is off
  config.retrain.random_cells = 3  # retrained the same way, for comparison
  config.retrain.channels = 16
  config.retrain.cells_per_stage = 5
  config.retrain.batch_size = 256
  config.retrain.learning_rate = 0.1  # cosine per step, to 0
  config.retrain.momentum = 0.9  # Nesterov
  config.retrain.weight_decay = 5e-4

  config.devices = 0  # to shard the batch over; 0 is all that divide it (on CPU: one virtual device a core)
  config.tensorboard = False
  return config


# numbers that must be above 0; the others may be 0
_POSITIVE = (
  'supernet.channels',
  'supernet.cells_per_stage',
  'search.epochs',
  'search.batch_size',
  'search.steps_per_dispatch',
  'search.clip_norm',
  'benchmark.kendall_images',
  'retrain.channels',
  'retrain.cells_per_stage',
  'retrain.batch_size',
)


def check(config: ConfigDict) -> ConfigDict:
  """Returns `config` locked if every value is allowed; all keys of `default()` and no other.

  Raises:
    InputError: names the key, what was given and what is allowed.
  """
  _check_tree(config, default(), '')
  for name, value in _leaves(config, ''):
    if isinstance(value, (int, float)) and not isinstance(value, bool):
      positive = name in _POSITIVE
      if not math.isfinite(value) or value < 0 or (positive and value == 0):
        raise InputError(f'config.{name}={value!r}: allowed is a number {"> 0" if positive else "≥ 0"}')
  if not all(0 <= beta < 1 for beta in config.search.alpha_betas):
    raise InputError(f'config.search.alpha_betas={config.search.alpha_betas}: allowed are two numbers in [0, 1)')
  if config.supernet.dtype not in ('float32', 'bfloat16'):
    raise InputError(f'config.supernet.dtype={config.supernet.dtype!r}: allowed are float32, bfloat16')
  if not 0 < config.data.fraction <= 1:
    raise InputError(f'config.data.fraction={config.data.fraction}: allowed is a number in (0, 1]')
  if config.search.seed >= 2**32:
    raise InputError(f'config.search.seed={config.search.seed}: allowed is an integer below 2**32')
  return config.lock()


def _leaves(config, prefix):
  for name, value in config.items():
    if isinstance(value, ConfigDict):
      yield from _leaves(value, f'{prefix}{name}.')
    else:
      yield f'{prefix}{name}', value


def _check_tree(config, reference, prefix):
  for name in sorted(set(config.keys()) - set(reference.keys())):
    raise InputError(f'unknown config.{prefix}{name}: allowed are {", ".join(sorted(reference.keys()))}')
  for name in sorted(set(reference.keys()) - set(config.keys())):
    raise InputError(f'config.{prefix}{name} is missing: start from beta_darts_jax.config.default()')
  for name, expected in reference.items():
    value = config[name]
    if isinstance(expected, ConfigDict) and isinstance(value, ConfigDict):
      _check_tree(value, expected, f'{prefix}{name}.')
    elif not _same_type(value, expected):
      raise InputError(f'config.{prefix}{name}={value!r}: allowed is {describe(expected)}')


def _same_type(value, expected):
  if isinstance(expected, tuple):
    same_length = isinstance(value, tuple) and len(value) == len(expected)
    return same_length and all(map(_same_type, value, expected))
  if isinstance(expected, float):
    return isinstance(value, (int, float)) and not isinstance(value, bool)
  return type(value) is type(expected)


def describe(expected) -> str:
  """What a value of the type of `expected` is called in messages."""
  if isinstance(expected, ConfigDict):
    return f'a group of {", ".join(sorted(expected.keys()))}'
  if isinstance(expected, tuple):
    return f'a tuple of {len(expected)}: ({", ".join(describe(e) for e in expected)})'
  names = {'bool': 'True or False', 'int': 'an integer', 'float': 'a number', 'str': 'a text'}
  return names[type(expected).__name__]

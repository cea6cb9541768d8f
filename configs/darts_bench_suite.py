"""DARTS-Bench-Suite (confopt, AutoML 2025): nine variants of the DARTS space on CIFAR-10.

  python -m beta_darts_jax.main --config configs/darts_bench_suite.py:SPACE,OPERATIONS

SPACE is wide (C=18, 4 cells), deep (C=7, 18 cells) or single_cell (C=26, one reduction
cell of 8 nodes). OPERATIONS is regular, no_skip or all_skip. regular has the eight
operations of DARTS, with `none`. no_skip leaves out the skip connection. all_skip adds
a skip connection in parallel to every edge, in the supernet and in the found network.
The search uses the first half of the training images and splits it again. The second
half is for the retraining:

  python -m beta_darts_jax.main --config configs/darts_bench_suite.py:SPACE,OPERATIONS,retrain \\
    --config.genotype=runs/darts_bench_suite_SPACE_OPERATIONS-cifar10-0

This trains the found cell at the size of the supernet with batch size 512. The authors
of the suite try nine settings: each train.learning_rate of 0.1, 0.025, 0.01 with each
train.weight_decay of 1e-4, 3e-4, 1e-3. They publish means over these settings, so you
cannot compare a single run with them. We chose the numbers of epochs, 50 for the search
and 300 for the retraining. This size is for accelerators: on two CPU cores a step takes
several seconds.
"""

from beta_darts_jax.config import default, default_retrain
from beta_darts_jax.errors import InputError

_SPACES = {'wide': (18, 4, 0), 'deep': (7, 18, 0), 'single_cell': (26, 1, 8)}  # C, cells, nodes (0: four)
_OPERATIONS = ('regular', 'no_skip', 'all_skip')


def get_config(argument: str = 'wide,regular'):
  space, operations, *rest = [*argument.split(','), '']
  if space not in _SPACES or operations not in _OPERATIONS or rest not in ([''], ['retrain', '']):
    raise InputError(
      f'darts_bench_suite.py:{argument}: expected SPACE,OPERATIONS or SPACE,OPERATIONS,retrain '
      f'of {", ".join(_SPACES)} and {", ".join(_OPERATIONS)}'
    )
  channels, layers, nodes = _SPACES[space]
  config = default_retrain() if len(rest) == 2 else default()
  config.data.source = 'cifar10'
  if len(rest) == 2:
    config.name = f'darts_bench_suite_retrain_{space}_{operations}'
    config.data.part = 'second half'
    config.data.cutout = 0
    config.network.channels, config.network.layers = channels, layers
    config.network.auxiliary_weight = 0.0
    config.network.auxiliary_skip = operations == 'all_skip'
    config.train.epochs, config.train.batch_size = 300, 512
    config.train.drop_path_rate = 0.0
    return config
  config.name = f'darts_bench_suite_{space}_{operations}'
  config.data.part = 'first half'
  config.space.name = 'darts_with_none'
  config.space.nodes = nodes
  config.space.auxiliary_skip = operations == 'all_skip'
  if operations == 'no_skip':
    config.space.operations = (
      'none', 'max_pool_3x3', 'avg_pool_3x3', 'sep_conv_3x3', 'sep_conv_5x5', 'dil_conv_3x3', 'dil_conv_5x5',
    )  # fmt: skip
  config.supernet.channels, config.supernet.layers = channels, layers
  config.supernet.unroll = False
  config.search.epochs = 50
  config.search.beta_decay_weight = 25.0
  return config

"""An operation of your own: shift, which moves the image down by one row and has no weights.

  python -m beta_darts_jax.main --config configs/own_operation.py
  python -m beta_darts_jax.main --config configs/own_operation.py:retrain --config.genotype=runs/own_operation-digits-0

The first command searches with shift as a candidate. The second command trains the found cell. An operation is an entry
of bd.OPERATIONS: a function (channels, stride, affine, dtype) → Flax module. This file registers shift, so that
checkpoints, the report and the retraining know it.
"""

import flax.linen as nn
import jax.numpy as jnp

import beta_darts_jax as bd
from beta_darts_jax.config import default, default_retrain


class Shift(nn.Module):
  """[B, H, W, C] → [B, H/stride, W/stride, C], times `weight` if it is given (β of the operation in the supernet)."""

  stride: int

  def __call__(self, x, train, weight=None):
    y = jnp.roll(x, 1, axis=1)[:, :: self.stride, :: self.stride]
    return y if weight is None else (weight * y).astype(x.dtype)


def make_shift(channels, stride, affine, dtype):
  return Shift(stride)  # an operation with weights also uses the other arguments


bd.OPERATIONS['shift'] = make_shift


def get_config(task='search'):
  if task not in ('search', 'retrain'):
    raise bd.InputError(f'own_operation.py:{task}: expected search or retrain')
  config = default_retrain() if task == 'retrain' else default()
  config.name = 'own_operation' if task == 'search' else 'own_operation_retrain'
  config.data.source, config.data.crop_padding, config.data.flip = 'digits', 1, False
  if task == 'retrain':
    config.data.cutout, config.network.auxiliary_weight = 0, 0.0  # the images have 8×8 pixels
    config.network.stem, config.network.channels, config.network.cells_per_stage = 'nas_bench_201', 8, 1
    config.train.epochs, config.train.batch_size = 6, 32
  else:
    config.space.operations = ('none', 'shift', 'nor_conv_3x3')
    config.supernet.channels, config.supernet.cells_per_stage, config.supernet.unroll = 8, 1, False
    config.search.epochs, config.search.batch_size = 20, 32
  return config

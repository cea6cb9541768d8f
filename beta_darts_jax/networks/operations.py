"""The candidate operations of an edge: small modules, chosen by name from OPERATIONS.

Arrays are [B, H, W, C]: batch, height, width, channels.
"""

import functools
from collections.abc import Callable, Iterable

import flax.linen as nn
import jax
import jax.numpy as jnp

from beta_darts_jax.errors import InputError
from beta_darts_jax.networks.initialization import Module
from beta_darts_jax.networks.kernels.pooling import average_pool, max_pool
from beta_darts_jax.networks.layers import BatchNorm, Conv, DepthwiseConv, FactorizedReduce, ReluConvBatchNorm


def scale(weight, x):
  """Computes weight·x in the dtype of x, or returns x if `weight` is None.

  The product is taken in the wider of the two dtypes: rounding the weight to bfloat16 would change it by up to 0.4 %.
  """
  return x if weight is None else (weight * x).astype(x.dtype)


class Operation(Module):
  """The base of the operations: [B, H, W, C] → [B, H/stride, W/stride, channels], times `weight` if it is given.

  `weight` is a scalar, or [channels] for the operations of unrolled.MERGEABLE.
  """

  channels: int
  stride: int = 1
  affine: bool = True  # batch normalization has scale and bias
  dtype: jnp.dtype | None = None


class Zero(Operation):
  """`none`: no connection."""

  def __call__(self, x, train: bool, weight=None):
    return jnp.zeros_like(x[:, :: self.stride, :: self.stride])


class Noise(Operation):
  """Draws from N(0, 1) in the shape of the input and ignores its values, also in evaluation; uses the stream 'draw'."""

  def __call__(self, x, train: bool, weight=None):
    x = x[:, :: self.stride, :: self.stride]
    return scale(weight, jax.random.normal(self.make_rng('draw'), x.shape, x.dtype))


class AveragePool(Operation):
  """3×3 average pooling."""

  def __call__(self, x, train: bool, weight=None):
    return scale(weight, average_pool(x, self.stride))


class MaxPool(Operation):
  """3×3 maximum pooling."""

  def __call__(self, x, train: bool, weight=None):
    return scale(weight, max_pool(x, self.stride))


class SkipConnect(Operation):
  """The identity, or with stride 2 a FactorizedReduce."""

  @nn.compact
  def __call__(self, x, train: bool, weight=None):
    if self.stride == 1:
      return scale(weight, x)
    reduce = FactorizedReduce(self.channels, affine=self.affine, dtype=self.dtype, name='reduce')
    return reduce(x, train, weight)


class SeparableConv(Operation):
  """relu → depthwise → 1×1 → BatchNorm, twice; the first depthwise convolution has the stride."""

  kernel_size: int = 3

  @nn.compact
  def __call__(self, x, train: bool, weight=None):
    for i, stride, factor in ((1, self.stride, None), (2, 1, weight)):
      x = DepthwiseConv(self.kernel_size, stride=stride, dtype=self.dtype, name=f'depthwise_{i}')(nn.relu(x))
      x = Conv(self.channels, 1, dtype=self.dtype, name=f'pointwise_{i}')(x)
      x = BatchNorm(affine=self.affine, dtype=self.dtype, name=f'batch_norm_{i}')(x, train, factor)
    return x


class DilatedConv(Operation):
  """relu → depthwise with dilation 2 → 1×1 → BatchNorm."""

  kernel_size: int = 3

  @nn.compact
  def __call__(self, x, train: bool, weight=None):
    depthwise = DepthwiseConv(self.kernel_size, stride=self.stride, dilation=2, dtype=self.dtype, name='depthwise')
    x = Conv(self.channels, 1, dtype=self.dtype, name='pointwise')(depthwise(nn.relu(x)))
    return BatchNorm(affine=self.affine, dtype=self.dtype, name='batch_norm')(x, train, weight)


class FactorizedConv(Operation):
  """relu → 1×7 convolution → 7×1 convolution → BatchNorm."""

  @nn.compact
  def __call__(self, x, train: bool, weight=None):
    x = Conv(self.channels, (1, 7), stride=(1, self.stride), dtype=self.dtype, name='conv_1x7')(nn.relu(x))
    x = Conv(self.channels, (7, 1), stride=(self.stride, 1), dtype=self.dtype, name='conv_7x1')(x)
    return BatchNorm(affine=self.affine, dtype=self.dtype, name='batch_norm')(x, train, weight)


class InvertedResidual(Operation):
  """1×1 convolution to E·C channels → depthwise → 1×1, each with BatchNorm; ReLU6 follows the first two.

  C are the channels of the input, which may differ from `channels`. The input is added where the shape stays
  (MobileNetV2, Sandler et al., CVPR 2018, section 3). With E = 1 the first convolution is left out.
  """

  kernel_size: int = 3
  expansion: int = 6  # E

  @nn.compact
  def __call__(self, x, train: bool, weight=None):
    y = x
    if self.expansion > 1:
      y = Conv(self.expansion * x.shape[-1], 1, dtype=self.dtype, name='expand')(y)
      y = nn.relu6(self._batch_norm('expand')(y, train))
    y = DepthwiseConv(self.kernel_size, stride=self.stride, dtype=self.dtype, name='depthwise')(y)
    y = nn.relu6(self._batch_norm('depthwise')(y, train))
    y = Conv(self.channels, 1, dtype=self.dtype, name='project')(y)
    y = self._batch_norm('project')(y, train, weight)
    return y + scale(weight, x) if self.stride == 1 and self.channels == x.shape[-1] else y

  def _batch_norm(self, name):
    return BatchNorm(affine=self.affine, dtype=self.dtype, name=f'batch_norm_{name}')


# name → factory(channels, stride, affine, dtype) of a module like Operation, with `__call__(x, train, weight=None)`
OPERATIONS: dict[str, Callable[..., nn.Module]] = {
  'none': Zero,
  'skip_connect': SkipConnect,
  'nor_conv_1x1': functools.partial(ReluConvBatchNorm, kernel_size=1),
  'nor_conv_3x3': functools.partial(ReluConvBatchNorm, kernel_size=3),
  'avg_pool_3x3': AveragePool,
  'max_pool_3x3': MaxPool,
  'sep_conv_3x3': functools.partial(SeparableConv, kernel_size=3),
  'sep_conv_5x5': functools.partial(SeparableConv, kernel_size=5),
  'sep_conv_7x7': functools.partial(SeparableConv, kernel_size=7),
  'dil_conv_3x3': functools.partial(DilatedConv, kernel_size=3),
  'dil_conv_5x5': functools.partial(DilatedConv, kernel_size=5),
  'conv_7x1_1x7': FactorizedConv,
  'noise': Noise,
  **{
    f'mb_conv_{size}x{size}_e{expansion}': functools.partial(InvertedResidual, kernel_size=size, expansion=expansion)
    for size in (3, 5, 7)
    for expansion in (3, 6)
  },
}
BUILT_IN = frozenset(OPERATIONS)  # users may add operations of their own


def known_operations(names: Iterable[str]) -> None:
  """Raises InputError if one of `names` is not in OPERATIONS."""
  for name in names:
    if name not in OPERATIONS:
      raise InputError(
        f'unknown operation {name!r}: expected one of {", ".join(OPERATIONS)}, or one that --config=FILE registers'
      )

"""Convolution and batch normalization as modules, with PyTorch's conventions.

Arrays are [B, H, W, C]: batch, height, width, channels. A last argument `weight`, a scalar or [C], multiplies the
result; batch normalization takes it into its scale, where it costs nothing.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from beta_darts_jax.networks.initialization import Module, uniform_fan_in
from beta_darts_jax.networks.kernels.convolution import convolution
from beta_darts_jax.networks.kernels.depthwise import depthwise
from beta_darts_jax.networks.kernels.platform import by_platform
from beta_darts_jax.networks.kernels.sums import channel_sums, written_out_sums

MOMENTUM = 0.9  # of the running statistics: PyTorch's 0.1 in Flax's terms
EPSILON = 1e-5  # added to the variance, as in PyTorch


class Conv(Module):
  """Convolution without bias: [B, H, W, C] → [B, H', W', features]."""

  features: int
  kernel_size: int | tuple[int, int]  # one number, or (height, width)
  stride: int | tuple[int, int] = 1  # one number, or (down, across)
  padding: int | tuple[int, int] | None = None  # zeros on each side: rows, columns; (kernel_size − 1)/2 if None
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x):
    size, strides = _pair(self.kernel_size), _pair(self.stride)
    padding = tuple((k - 1) // 2 for k in size) if self.padding is None else _pair(self.padding)
    kernel = self.param('kernel', uniform_fan_in(), (*size, x.shape[-1], self.features))
    x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
    if size == (1, 1):  # as a matrix product: faster on CPU, and correct when vmapped and sharded
      x = x[:, :: strides[0], :: strides[1]]
      return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:-1], self.features)
    return convolution(x, kernel, strides, padding)


def _pair(value):
  return value if isinstance(value, tuple) else (value, value)


class DepthwiseConv(Module):
  """One filter for each channel, without bias, padding (kernel_size − 1)·dilation/2.

  [B, H, W, C] → [B, H/stride, W/stride, C].
  """

  kernel_size: int
  stride: int = 1
  dilation: int = 1
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x):
    kernel = self.param('kernel', uniform_fan_in(), (self.kernel_size, self.kernel_size, 1, x.shape[-1]))
    x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
    return depthwise(x, kernel, self.stride, self.dilation)


def at_least_float32(x):
  """Casts bfloat16 and float16 to float32; other floats stay as they are."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def two_pass_moments(x, unused_shift):
  """Returns the mean and the biased variance over all axes but the last, at least float32: [..., C] → [C], [C]."""
  mean = jnp.mean(at_least_float32(x), range(x.ndim - 1))

  def squares(x):
    return (jnp.square(at_least_float32(x) - mean),)

  return mean, written_out_sums(mean[0], x, function=squares)[0] * (x.shape[-1] / x.size)


def one_pass_moments(x, shift):
  """Computes `two_pass_moments` in one reading of x. The TPU's compiler sums within the convolution that makes x.

  The variance is E[(x − shift)²] − E[x − shift]² (Chan, Golub and LeVeque, 1983: Algorithms for computing the sample
  variance). Its relative error in float32 is about 1e-7·((mean − shift)/std)². So the shift may be tens of standard
  deviations away from the mean, but not thousands.
  """
  shifted, axes = at_least_float32(x) - shift, range(x.ndim - 1)
  mean, square = jnp.mean(shifted, axes), jnp.mean(jnp.square(shifted), axes)
  return mean + shift, jnp.maximum(square - jnp.square(mean), 0)


@jax.custom_vjp
def batch_normalize(x, scale, shift):
  """Computes scale·(x − mean)/√(variance + EPSILON) over all axes but the last; the variance is biased.

  The gradients are those of Ioffe and Szegedy (2015), section 3. Both of their sums are taken in one reading of x and
  the cotangent, so a mixing weight given as `scale` costs nothing. XLA's own gradients take twice as long on CPU.

  x is [..., C], and `scale` is [C] or a scalar. `shift` [C] is a guess of the mean, see `one_pass_moments`. It has the
  type of the moments. Returns (y [..., C], mean [C], variance [C]). No gradient flows through mean and variance. They
  are float32 for bfloat16, and otherwise of the type of x.
  """
  return _normalize(x, scale, shift)[:3]


@jax.jit  # many small operations: traced once for all layers of a shape
def _normalize(x, scale, shift):
  mean, variance = by_platform(x, shift, cpu=two_pass_moments, default=one_pass_moments)
  mean, inverse = lax.optimization_barrier((mean, lax.rsqrt(variance + EPSILON)))
  y = (at_least_float32(x) - mean) * (inverse * scale)
  return y.astype(x.dtype), mean, variance, inverse


def _batch_normalize_forward(x, scale, shift):
  y, mean, variance, inverse = _normalize(x, scale, shift)
  return (y, mean, variance), (x, scale, mean, inverse)


@jax.jit
def _batch_normalize_backward(residuals, cotangents):
  (x, scale, mean, inverse), cotangent = residuals, at_least_float32(cotangents[0])
  count = x.size // x.shape[-1]

  def projections(cotangent, x):
    return cotangent, cotangent * (at_least_float32(x) - mean)

  along_ones, along_centred = channel_sums(mean[0], cotangent, x, function=projections)
  along_ones, along_y = lax.optimization_barrier((along_ones, along_centred * inverse))
  projected = cotangent - along_ones / count - (at_least_float32(x) - mean) * (inverse * along_y / count)
  scale_gradient = along_y if scale.ndim else jnp.sum(along_y)
  x_gradient = (projected * (inverse * scale)).astype(x.dtype)
  return x_gradient, scale_gradient.astype(scale.dtype), jnp.zeros_like(mean)


batch_normalize.defvjp(_batch_normalize_forward, _batch_normalize_backward)


class BatchNorm(Module):
  """PyTorch's BatchNorm: momentum 0.1, epsilon 1e-5.

  The running variance is the biased one, as in Flax; PyTorch keeps the unbiased one. Parameters and statistics are at
  least float32, whatever `dtype` is.
  """

  affine: bool = True  # has a scale and a bias
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x, train: bool, weight=None):
    channels = x.shape[-1:]
    mean = self.variable('batch_stats', 'mean', jnp.zeros, channels)
    var = self.variable('batch_stats', 'var', jnp.ones, channels)
    scale = self.param('scale', nn.initializers.ones, channels) if self.affine else jnp.ones((), mean.value.dtype)
    x = x.astype(self.dtype or x.dtype)
    if train:
      # a diverged step may leave inf; in 64-bit mode the running mean is float64, and x may be float32
      shift = jnp.where(jnp.isfinite(mean.value), mean.value, 0).astype(at_least_float32(x).dtype)
      y, batch_mean, batch_var = batch_normalize(x, _times(scale, weight), shift)
      if not self.is_initializing():
        mean.value = MOMENTUM * mean.value + (1 - MOMENTUM) * batch_mean
        var.value = MOMENTUM * var.value + (1 - MOMENTUM) * batch_var
    else:
      y = (at_least_float32(x) - mean.value) * (lax.rsqrt(var.value + EPSILON) * _times(scale, weight))
    if self.affine:
      y += _times(self.param('bias', nn.initializers.zeros, channels), weight)
    return y.astype(x.dtype)


def _times(parameter, weight):
  return parameter if weight is None else parameter * weight


class ReluConvBatchNorm(Module):
  """relu → convolution → BatchNorm: [B, H, W, C] → [B, H/stride, W/stride, channels]."""

  channels: int
  stride: int = 1
  affine: bool = True
  dtype: jnp.dtype | None = None
  kernel_size: int = 1

  @nn.compact
  def __call__(self, x, train: bool, weight=None):
    conv = Conv(self.channels, self.kernel_size, stride=self.stride, dtype=self.dtype, name='conv')
    return BatchNorm(affine=self.affine, dtype=self.dtype, name='batch_norm')(conv(nn.relu(x)), train, weight)


class FactorizedReduce(Module):
  """Halves the image: relu → two 1×1 convolutions of stride 2, concatenated → BatchNorm.

  The second convolution sees the image shifted by one pixel down and right.
  [B, H, W, C] with even H and W → [B, H/2, W/2, channels].
  """

  channels: int
  affine: bool = True
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x, train: bool, weight=None):
    x = nn.relu(x)
    half = self.channels // 2
    even = Conv(half, 1, stride=2, dtype=self.dtype, name='conv_1')(x)
    odd = Conv(self.channels - half, 1, stride=2, dtype=self.dtype, name='conv_2')(x[:, 1:, 1:])
    y = jnp.concatenate([even, odd], axis=-1)
    return BatchNorm(affine=self.affine, dtype=self.dtype, name='batch_norm')(y, train, weight)


# ---- around cells and layers ----


def scanned(body: Callable, length: int, over=nn.broadcast, unroll: int = 1):
  """Makes `length` repetitions of `body(module, carry, *arguments) → (carry, None)` one compiled loop body.

  The variables of the module get a leading axis. `arguments` are the same in every repetition, or they are sliced along
  the axis `over`.
  """
  return nn.scan(
    body,
    variable_axes=dict.fromkeys(('params', 'batch_stats', 'intermediates', 'offsets'), 0),
    split_rngs={'params': True, 'draw': True},
    in_axes=over,
    length=length,
    unroll=unroll,
  )


def dense(x, num_classes: int):
  """Computes the linear classifier in at least float32: [B, C] → [B, num_classes]. Call it in a compact method."""
  x = at_least_float32(x)
  init = uniform_fan_in(x.shape[-1])  # PyTorch initializes the bias in the same way
  return nn.Dense(num_classes, kernel_init=init, bias_init=init, name='classifier')(x)


def classify(x, num_classes: int):
  """Computes the global mean and the linear classifier: [B, H, W, C] → [B, num_classes]."""
  return dense(jnp.mean(at_least_float32(x), axis=(1, 2)), num_classes)


def drop_path(key, x, rate):
  """Sets each sample of x to zero with probability `rate` and divides the others by 1 − rate: [B, H, W, C] → same."""
  keep = jax.random.bernoulli(key, 1 - rate, (len(x), 1, 1, 1))
  return jnp.where(keep, x / jnp.asarray(1 - rate, x.dtype), 0)

"""Candidate operations: small linen modules, chosen by name from OPERATIONS.

Arrays are [B, H, W, C]: batch, height, width, channels.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from beta_darts_jax.errors import InputError
from beta_darts_jax.networks.initialization import Module, uniform_fan_in


def _in_itself(function, known, *arguments):
  """function(*arguments), compiled apart from what is around it; NaN if `known`, a scalar, is NaN.

  XLA:CPU computes what it takes to be cheap anew for each of its readers, fused into them: a transposition then takes
  fifty times as long. Nothing is fused across a conditional, and its condition XLA cannot know.
  """
  shape = jax.eval_shape(function, *arguments)
  return lax.cond(known == known, function, lambda *_: jnp.full(shape.shape, jnp.nan, shape.dtype), *arguments)


def _once(x, known):
  return lax.platform_dependent(
    x, known, cpu=lambda x, known: _in_itself(lambda x: x, known, x), default=lambda x, _: x
  )


@jax.custom_vjp
def computed_once(x, known):
  """x, and its cotangent, each computed once for all its readers on CPU, where XLA fuses too much; elsewhere x."""
  return _once(x, known)


computed_once.defvjp(
  lambda x, known: (_once(x, known), known),
  lambda known, cotangent: (_once(cotangent, known), jnp.zeros_like(known)),
)


def _plain_convolution(x, kernel, strides, padding):
  return lax.conv_general_dilated(
    x, kernel, strides, [(p, p) for p in padding], dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )


def _plain_gradients(strides, padding, x, kernel, cotangent):
  """Gradients of the convolution as XLA writes them: (x's, kernel's)."""
  return jax.vjp(lambda x, kernel: _plain_convolution(x, kernel, strides, padding), x, kernel)[1](cotangent)


def _canonical_gradients(strides, padding, x, kernel, cotangent):
  """The same sums as NHWC·HWIO convolutions, the only layout for which XLA:CPU has fast code.

  Left to itself, XLA:CPU runs them on a generic path when the program is large
  or a loop, many times slower. x's gradient: the (dilated) cotangent with the
  flipped kernel; the barrier keeps XLA from folding the transposition back
  into the convolution. kernel's gradient: x as [C, H, W, B] with the cotangent
  as its [H, W, B, D] filter.
  """
  height, width = kernel.shape[:2]
  edges = [
    (size - 1 - pad, before + pad - 1 - (after - 1) * stride)
    for size, pad, before, after, stride in zip(
      kernel.shape[:2], padding, x.shape[1:3], cotangent.shape[1:3], strides, strict=True
    )
  ]
  x_gradient = lax.conv_general_dilated(
    cotangent,
    lax.optimization_barrier(kernel[::-1, ::-1].transpose(0, 1, 3, 2)),
    (1, 1),
    edges,
    lhs_dilation=strides,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )

  def kernel_gradient(x, cotangent):
    gradient = lax.conv_general_dilated(
      x.transpose(3, 1, 2, 0),
      cotangent.transpose(1, 2, 0, 3),
      (1, 1),
      [(p, p) for p in padding],
      rhs_dilation=strides,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    return gradient[:, :height, :width].transpose(1, 2, 0, 3)

  return x_gradient, _in_itself(kernel_gradient, kernel.ravel()[0], x, cotangent)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolution(x, kernel, strides=(1, 1), padding=(0, 0)):
  """2-D convolution, zero padding, equal on every backend; on CPU its gradients are written in canonical layout.

  Args:
    x: [B, H, W, C].
    kernel: [K, L, C, D].
    strides: steps down and across.
    padding: rows and columns of zeros on each side (PyTorch's meaning; not 'SAME' when strided).

  Returns:
    [B, H', W', D].
  """
  return _plain_convolution(x, kernel, strides, padding)


def _convolution_forward(x, kernel, strides, padding):
  return _plain_convolution(x, kernel, strides, padding), (x, kernel)


def _convolution_backward(strides, padding, residuals, cotangent):
  x, kernel = residuals
  return lax.platform_dependent(
    x,
    kernel,
    cotangent,
    cpu=functools.partial(_canonical_gradients, strides, padding),
    default=functools.partial(_plain_gradients, strides, padding),
  )


convolution.defvjp(_convolution_forward, _convolution_backward)


class Conv(Module):
  """Convolution without bias, padding (kernel_size − 1)/2 unless given: [B, H, W, C] → [B, H', W', features].

  `kernel_size`, `stride` and `padding` are one number, or one down and one across.
  """

  features: int
  kernel_size: int | tuple[int, int]
  stride: int | tuple[int, int] = 1
  padding: int | tuple[int, int] | None = None
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x):
    size, strides = _pair(self.kernel_size), _pair(self.stride)
    padding = tuple((k - 1) // 2 for k in size) if self.padding is None else _pair(self.padding)
    kernel = self.param('kernel', uniform_fan_in(), (*size, x.shape[-1], self.features))
    x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
    if size == (1, 1):  # as a product: faster on CPU, and safe when vmapped and sharded
      x = x[:, :: strides[0], :: strides[1]]
      return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:-1], self.features)
    return convolution(x, kernel, strides, padding)


def _pair(value):
  return value if isinstance(value, tuple) else (value, value)


MOMENTUM, EPSILON = 0.9, 1e-5  # PyTorch's, its momentum of 0.1 in Flax's terms


@jax.custom_vjp
def batch_normalized(x, scale):
  """scale·(x − mean)/√(variance + EPSILON) over all but the last axis, the variance biased and in two passes.

  Gradients (Ioffe and Szegedy, 2015, §3) in one reading of x and the cotangent for both sums, so that a mixing weight
  given as `scale` costs nothing; derived from the formula above they take twice as long on CPU.

  Args:
    x: [..., C].
    scale: [C], or a scalar.

  Returns:
    (y [..., C], mean [C], variance [C]); no gradient flows through the last two. Statistics of bfloat16 are float32.
  """
  return _batch_normalized_forward(x, scale)[0]


def _widened(x):
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _batch_normalized_forward(x, scale):
  axes = tuple(range(x.ndim - 1))
  mean = jnp.mean(_widened(x), axes)
  variance = jnp.mean(jnp.square(_widened(x) - mean), axes)
  mean, inverse = lax.optimization_barrier((mean, lax.rsqrt(variance + EPSILON)))
  y = (_widened(x) - mean) * (inverse * scale)
  return (y.astype(x.dtype), mean, variance), (x, scale, mean, inverse)


def _batch_normalized_backward(residuals, cotangents):
  (x, scale, mean, inverse), cotangent = residuals, _widened(cotangents[0])
  axes = tuple(range(x.ndim - 1))
  count = x.size // x.shape[-1]
  along_ones = jnp.sum(cotangent, axes)
  along_y = jnp.sum(cotangent * (_widened(x) - mean), axes) * inverse
  along_ones, along_y = lax.optimization_barrier((along_ones, along_y))
  projected = cotangent - along_ones / count - (_widened(x) - mean) * (inverse * along_y / count)
  scale_gradient = along_y if scale.ndim else jnp.sum(along_y)
  return (projected * (inverse * scale)).astype(x.dtype), scale_gradient.astype(scale.dtype)


batch_normalized.defvjp(_batch_normalized_forward, _batch_normalized_backward)


class BatchNorm(Module):
  """PyTorch's BatchNorm: momentum 0.1, epsilon 1e-5, two-pass variance; times `weight`, a scalar or [C], if given.

  The running variance is the biased one, as Flax keeps it (PyTorch: unbiased). Parameters and statistics are float32 at
  least, whatever `dtype` is computed in.
  """

  affine: bool = True
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x, train: bool, weight=None):
    channels = x.shape[-1:]
    mean = self.variable('batch_stats', 'mean', jnp.zeros, channels)
    var = self.variable('batch_stats', 'var', jnp.ones, channels)
    scale = self.param('scale', nn.initializers.ones, channels) if self.affine else jnp.ones((), mean.value.dtype)
    weighted = lambda parameter: parameter if weight is None else parameter * weight
    x = x.astype(self.dtype or x.dtype)
    if train:
      y, batch_mean, batch_var = batch_normalized(x, weighted(scale))
      if not self.is_initializing():
        mean.value = MOMENTUM * mean.value + (1 - MOMENTUM) * batch_mean
        var.value = MOMENTUM * var.value + (1 - MOMENTUM) * batch_var
    else:
      y = (_widened(x) - mean.value) * (lax.rsqrt(var.value + EPSILON) * weighted(scale))
    if self.affine:
      y += weighted(self.param('bias', nn.initializers.zeros, channels))
    return y.astype(x.dtype)


class ReluConvBatchNorm(Module):
  """relu → convolution → BatchNorm, the order of the field."""

  features: int
  kernel_size: int
  stride: int = 1
  affine: bool = True
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x, train: bool, weight=None):
    x = Conv(self.features, self.kernel_size, self.stride, dtype=self.dtype, name='conv')(nn.relu(x))
    return BatchNorm(self.affine, self.dtype, name='batch_norm')(x, train, weight)


class FactorizedReduce(Module):
  """relu, then two 1×1 convolutions of stride 2, one on the image shifted by a pixel, concatenated; BatchNorm.

  [B, H, W, C] with even H and W → [B, H/2, W/2, features].
  """

  features: int
  affine: bool = True
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x, train: bool, weight=None):
    x = nn.relu(x)
    half = self.features // 2
    even = Conv(half, 1, 2, dtype=self.dtype, name='conv_1')(x)
    odd = Conv(self.features - half, 1, 2, dtype=self.dtype, name='conv_2')(x[:, 1:, 1:])
    return BatchNorm(self.affine, self.dtype, name='batch_norm')(jnp.concatenate([even, odd], axis=-1), train, weight)


def times(weight, x):
  """weight·x in x's dtype, multiplied in the wider of both: a weight of bfloat16 would be off by up to 0.4 %."""
  return x if weight is None else (weight * x).astype(x.dtype)


class SkipConnect(Module):
  """The identity; with stride 2 a factorised reduction."""

  channels: int
  stride: int = 1
  affine: bool = True
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x, train: bool, weight=None):
    if self.stride == 1:
      return times(weight, x)
    return FactorizedReduce(self.channels, self.affine, self.dtype, name='reduce')(x, train, weight)


def _taps(padded, size, stride, dilation, height, width):
  """For each weight of a depthwise filter, row by row, the pixels that it meets: [B, height, width, C]."""
  for top in range(0, size * dilation, dilation):
    for left in range(0, size * dilation, dilation):
      end = (len(padded), top + (height - 1) * stride + 1, left + (width - 1) * stride + 1, padded.shape[3])
      yield lax.slice(padded, (0, top, left, 0), end, (1, stride, stride, 1))


def _padded(x, low, high, interior=0):
  """Zeros around and between rows and columns. The barrier: else XLA computes x anew for each tap."""
  edges = [(0, 0, 0), *((low, h, interior) for h in high), (0, 0, 0)]
  return lax.optimization_barrier(lax.pad(x, jnp.zeros((), x.dtype), edges))


@functools.partial(jax.jit, static_argnums=(2, 3))  # many small operations: traced once for all layers of a shape
def _shifted_sum(x, kernel, stride, dilation):
  size = kernel.shape[0]
  pad = (size - 1) * dilation // 2
  height, width = ((n - 1) // stride + 1 for n in x.shape[1:3])
  taps = _taps(_padded(x, pad, (pad, pad)), size, stride, dilation, height, width)
  weights = kernel.reshape(size * size, -1)
  return sum(pixels * weights[i] for i, pixels in enumerate(taps))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def shifted_depthwise(x, kernel, stride, dilation):
  """`depthwise` as a sum of shifted images, its gradients too: XLA:CPU's grouped convolution is far slower."""
  return _shifted_sum(x, kernel, stride, dilation)


def _shifted_forward(x, kernel, stride, dilation):
  return _shifted_sum(x, kernel, stride, dilation), (x, kernel)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _shifted_backward(stride, dilation, residuals, cotangent):
  x, kernel = residuals
  size = kernel.shape[0]
  pad = (size - 1) * dilation // 2
  cotangent = lax.optimization_barrier(cotangent)
  high = [n + pad - 1 - (m - 1) * stride for n, m in zip(x.shape[1:3], cotangent.shape[1:3], strict=True)]
  around = _padded(cotangent, pad, high, stride - 1)

  def x_gradient(around, kernel):
    weights = kernel.reshape(size * size, -1)[::-1]
    return sum(pixels * weights[i] for i, pixels in enumerate(_taps(around, size, 1, dilation, *x.shape[1:3])))

  # by itself: else the sums of all the operations on x become one slow loop
  x_gradient = _in_itself(x_gradient, kernel.ravel()[0], around, kernel)
  taps = _taps(_padded(x, pad, (pad, pad)), size, stride, dilation, *cotangent.shape[1:3])
  kernel_gradient = jnp.concatenate([_products(tuple(row), cotangent) for row in zip(*[taps] * size, strict=True)])
  return x_gradient, kernel_gradient.reshape(kernel.shape).astype(kernel.dtype)


shifted_depthwise.defvjp(_shifted_forward, _shifted_backward)


@jax.custom_jvp
def _products(images, cotangent):
  """For each of K images [B, H, W, C] Σ image·cotangent over all but the channels, in one pass: [K, C]."""
  dtype = jnp.promote_types(cotangent.dtype, jnp.float32)
  products = [(image * cotangent).astype(dtype) for image in images]
  zeros = [jnp.zeros((), dtype)] * len(products)
  return jnp.stack(lax.reduce(products, zeros, lambda a, b: [u + v for u, v in zip(a, b, strict=True)], (0, 1, 2)))


@_products.defjvp
def _products_jvp(primals, tangents):
  plain = lambda images, cotangent: jnp.stack([jnp.sum(image * cotangent, axis=(0, 1, 2)) for image in images])
  (images, cotangent), (image_tangents, cotangent_tangent) = primals, tangents
  tangent = plain(image_tangents, cotangent) + plain(images, cotangent_tangent)
  value = _products(images, cotangent)
  return value, tangent.astype(value.dtype)


def grouped_depthwise(x, kernel, stride, dilation):
  """`depthwise` as XLA's grouped convolution."""
  pad = (kernel.shape[0] - 1) * dilation // 2
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    [(pad, pad)] * 2,
    rhs_dilation=(dilation, dilation),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=x.shape[-1],
  )


def depthwise(x, kernel, stride: int = 1, dilation: int = 1):
  """Depthwise convolution, zero padding (K − 1)·dilation/2; in the form that measures fastest on the backend.

  Args:
    x: [B, H, W, C].
    kernel: [K, K, 1, C], K odd.
    stride: in both directions.
    dilation: distance of the pixels that neighbouring weights meet.

  Returns:
    [B, ⌈H/stride⌉, ⌈W/stride⌉, C].
  """
  return lax.platform_dependent(
    x,
    kernel,
    cpu=functools.partial(shifted_depthwise, stride=stride, dilation=dilation),
    default=functools.partial(grouped_depthwise, stride=stride, dilation=dilation),
  )


class DepthwiseConv(Module):
  """A filter for each channel, no bias, 'same' padding: [B, H, W, C] → [B, H/stride, W/stride, C]."""

  kernel_size: int
  stride: int = 1
  dilation: int = 1
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x):
    kernel = self.param('kernel', uniform_fan_in(), (self.kernel_size, self.kernel_size, 1, x.shape[-1]))
    x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
    return depthwise(x, kernel, self.stride, self.dilation)


class SeparableConv(Module):
  """relu → depthwise → 1×1 → BatchNorm, twice; the stride in the first."""

  channels: int
  kernel_size: int
  stride: int = 1
  affine: bool = True
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x, train: bool, weight=None):
    for i, stride, factor in ((1, self.stride, None), (2, 1, weight)):
      x = DepthwiseConv(self.kernel_size, stride, dtype=self.dtype, name=f'depthwise_{i}')(nn.relu(x))
      x = Conv(self.channels, 1, dtype=self.dtype, name=f'pointwise_{i}')(x)
      x = BatchNorm(self.affine, self.dtype, name=f'batch_norm_{i}')(x, train, factor)
    return x


class DilatedConv(Module):
  """relu → depthwise with every second pixel → 1×1 → BatchNorm."""

  channels: int
  kernel_size: int
  stride: int = 1
  affine: bool = True
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x, train: bool, weight=None):
    x = DepthwiseConv(self.kernel_size, self.stride, 2, dtype=self.dtype, name='depthwise')(nn.relu(x))
    x = Conv(self.channels, 1, dtype=self.dtype, name='pointwise')(x)
    return BatchNorm(self.affine, self.dtype, name='batch_norm')(x, train, weight)


class FactorizedConv(Module):
  """relu → 1×7 convolution → 7×1 convolution → BatchNorm."""

  channels: int
  stride: int = 1
  affine: bool = True
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x, train: bool, weight=None):
    x = Conv(self.channels, (1, 7), (1, self.stride), dtype=self.dtype, name='conv_1x7')(nn.relu(x))
    x = Conv(self.channels, (7, 1), (self.stride, 1), dtype=self.dtype, name='conv_7x1')(x)
    return BatchNorm(self.affine, self.dtype, name='batch_norm')(x, train, weight)


def _with_neighbours(x, axis):
  """x and both its neighbours along `axis` added up; zeros outside."""
  zeros = jnp.zeros_like(lax.slice_in_dim(x, 0, 1, axis=axis))
  before = jnp.concatenate([zeros, lax.slice_in_dim(x, 0, -1, axis=axis)], axis)
  return before + x + jnp.concatenate([lax.slice_in_dim(x, 1, None, axis=axis), zeros], axis)


def windowed_average(x, stride: int = 1):
  """`average_pool` as XLA's windowed sum."""
  y = nn.avg_pool(x, (3, 3), (stride, stride), ((1, 1), (1, 1)), count_include_pad=False)
  return y.astype(x.dtype)  # Flax divides by float32 counts


def average_of_nine(x, stride: int = 1):
  """`average_pool` as shifted sums, along one axis and the other: on CPU windowed sums are slower."""
  pixels = [np.convolve(np.ones(n), np.ones(3))[1:-1] for n in x.shape[1:3]]  # 2 at the borders, else 3
  y = _with_neighbours(_with_neighbours(x, 1), 2) * (1 / np.outer(*pixels))[:, :, None].astype(x.dtype)
  return y[:, ::stride, ::stride]


def average_pool(x, stride: int = 1):
  """3×3 means of x [B, H, W, C] that do not count the padding (PyTorch's count_include_pad=False).

  Returns:
    [B, ⌈H/stride⌉, ⌈W/stride⌉, C], in the form that measures fastest on CPU; XLA's elsewhere.
  """
  cpu, default = (functools.partial(form, stride=stride) for form in (average_of_nine, windowed_average))
  return lax.platform_dependent(x, cpu=cpu, default=default)


class AveragePool(Module):
  """`average_pool`."""

  stride: int = 1

  def __call__(self, x, train: bool, weight=None):
    return times(weight, average_pool(x, self.stride))


def windowed_maximum(x, stride: int = 1):
  """`max_pool` as XLA's windowed reduction."""
  return nn.max_pool(x, (3, 3), (stride, stride), ((1, 1), (1, 1)))


def max_pool(x, stride: int = 1):
  """3×3 maxima of x [B, H, W, C]; the gradient goes to the first maximum of the window, row by row, as in PyTorch.

  Returns:
    [B, ⌈H/stride⌉, ⌈W/stride⌉, C], in the form that measures fastest on CPU; XLA's elsewhere.
  """
  cpu, default = (functools.partial(form, stride=stride) for form in (max_of_nine, windowed_maximum))
  return lax.platform_dependent(x, cpu=cpu, default=default)


def max_of_nine(x, stride: int = 1):
  """`max_pool` as maxima of shifted images: windowed reductions are slow on CPU, their gradients even more."""
  return _max_of_nine(x, stride, x.shape[1:3])


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _max_of_nine(x, stride, size):
  return _max_of_nine_forward(x, stride, size)[0]


def _max_of_nine_forward(x, stride, size):
  low = jnp.array(-jnp.inf, x.dtype)
  padded = lax.optimization_barrier(lax.pad(x, low, [(0, 0, 0), (1, 1, 0), (1, 1, 0), (0, 0, 0)]))
  taps = _taps(padded, 3, stride, 1, *((n - 1) // stride + 1 for n in size))
  most = next(taps)
  where = jnp.zeros(most.shape, jnp.int8)
  for i, pixels in enumerate(taps, 1):
    more = (pixels > most) | jnp.isnan(pixels)
    most, where = jnp.where(more, pixels, most), jnp.where(more, jnp.int8(i), where)
  return lax.optimization_barrier((most, where))


def _max_of_nine_backward(stride, size, where, cotangent):
  high = [n - (m - 1) * stride for n, m in zip(size, where.shape[1:3], strict=True)]
  edges = [(0, 0, 0), *((1, h, stride - 1) for h in high), (0, 0, 0)]
  around = lax.optimization_barrier(
    (lax.pad(cotangent, jnp.zeros((), cotangent.dtype), edges), lax.pad(where, jnp.int8(-1), edges))
  )
  taps = zip(*(_taps(padded, 3, 1, 1, *size) for padded in around), strict=True)
  return (sum(jnp.where(place == 8 - i, part, 0) for i, (part, place) in enumerate(taps)),)


_max_of_nine.defvjp(_max_of_nine_forward, _max_of_nine_backward)


class MaxPool(Module):
  """`max_pool`."""

  stride: int = 1

  def __call__(self, x, train: bool, weight=None):
    return times(weight, max_pool(x, self.stride))


class Noise(Module):
  """N(0, 1) of the shape of the input, whatever it holds, in evaluation too: draws from the stream 'draw'."""

  stride: int = 1

  def __call__(self, x, train: bool, weight=None):
    x = x[:, :: self.stride, :: self.stride]
    return times(weight, jax.random.normal(self.make_rng('draw'), x.shape, x.dtype))


class Zero(Module):
  """`none`: no connection."""

  stride: int = 1

  def __call__(self, x, train: bool, weight=None):
    return jnp.zeros_like(x[:, :: self.stride, :: self.stride])


# name -> (channels, stride, affine, dtype) -> module with __call__(x, train, weight=None): [B, H, W, C] → [B, H/stride,
# W/stride, C], times `weight` if given (a scalar; [C] too for what supernet.WIDE joins): a last BatchNorm takes it into
# its scale
OPERATIONS = {
  'none': lambda channels, stride, affine, dtype: Zero(stride),
  'skip_connect': SkipConnect,
  'nor_conv_1x1': lambda channels, *rest: ReluConvBatchNorm(channels, 1, *rest),
  'nor_conv_3x3': lambda channels, *rest: ReluConvBatchNorm(channels, 3, *rest),
  'avg_pool_3x3': lambda channels, stride, affine, dtype: AveragePool(stride),
  'max_pool_3x3': lambda channels, stride, affine, dtype: MaxPool(stride),
  'sep_conv_3x3': lambda channels, *rest: SeparableConv(channels, 3, *rest),
  'sep_conv_5x5': lambda channels, *rest: SeparableConv(channels, 5, *rest),
  'sep_conv_7x7': lambda channels, *rest: SeparableConv(channels, 7, *rest),
  'dil_conv_3x3': lambda channels, *rest: DilatedConv(channels, 3, *rest),
  'dil_conv_5x5': lambda channels, *rest: DilatedConv(channels, 5, *rest),
  'conv_7x1_1x7': FactorizedConv,
  'noise': lambda channels, stride, affine, dtype: Noise(stride),
}
BUILT_IN = frozenset(OPERATIONS)  # users may add others


def known_operations(names) -> None:
  """Raises InputError if one of `names` is not in OPERATIONS."""
  for name in names:
    if name not in OPERATIONS:
      raise InputError(
        f'unknown operation {name!r}: allowed are {", ".join(OPERATIONS)}, and those that a config file adds to them'
      )

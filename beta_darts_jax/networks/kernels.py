"""Convolution and pooling in the form that each backend computes fastest.

XLA:CPU is many times slower than it could be on these operations (benchmarks/README.md), so they have another form on
CPU. The plain twin of each CPU form is XLA's own form, which accelerators use; tests/networks/test_kernels.py compares
the two. A CPU form can be deleted when XLA:CPU computes its plain twin as fast.

Legend: B batch, H and W height and width, C channels, D output channels, K kernel size.
"""

import functools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

LAYOUT = ('NHWC', 'HWIO', 'NHWC')  # of the images, the kernel and the result of a convolution
MOST_COLUMNS = 32  # of an image, whose products are written out one after another
FORCE_PLAIN = False  # tests set it to run the accelerators' forms on CPU


def by_platform(*arrays, cpu: Callable, default: Callable, **options):
  """Returns cpu(*arrays, **options) on CPU and default(*arrays, **options) elsewhere.

  Under FORCE_PLAIN it returns the default everywhere.
  """
  cpu, default = functools.partial(cpu, **options), functools.partial(default, **options)
  return default(*arrays) if FORCE_PLAIN else lax.platform_dependent(*arrays, cpu=cpu, default=default)


# ---- control of XLA:CPU's fusion ----


def compile_separately(function: Callable, runtime_scalar: jax.Array, *arguments) -> jax.Array:
  """Computes function(*arguments) apart from the operations around it; NaN if `runtime_scalar` is NaN.

  XLA:CPU fuses an operation that looks cheap into each of its users, and so repeats it. A repeated transposition takes
  fifty times as long. XLA does not fuse across a conditional whose condition it cannot evaluate when it compiles, such
  as `runtime_scalar == runtime_scalar`. This can go when XLA:CPU no longer repeats such operations.
  """
  shape = jax.eval_shape(function, *arguments)
  nan = lambda *_: jnp.full(shape.shape, jnp.nan, shape.dtype)
  return lax.cond(runtime_scalar == runtime_scalar, function, nan, *arguments)


def _compute_once(x, runtime_scalar):
  separate_identity = functools.partial(compile_separately, lambda x: x)
  return by_platform(runtime_scalar, x, cpu=separate_identity, default=lambda _, x: x)


@jax.custom_vjp
def no_refusion(x: jax.Array, runtime_scalar: jax.Array) -> jax.Array:
  """Returns x. On CPU, x and its cotangent are computed once, not again in each of their users."""
  return _compute_once(x, runtime_scalar)


def _no_refusion_forward(x, runtime_scalar):
  return _compute_once(x, runtime_scalar), runtime_scalar


def _no_refusion_backward(runtime_scalar, cotangent):
  return _compute_once(cotangent, runtime_scalar), jnp.zeros_like(runtime_scalar)


no_refusion.defvjp(_no_refusion_forward, _no_refusion_backward)


# ---- sums over pixels ----


def _sums(*images):
  return jnp.stack([jnp.sum(x, range(x.ndim - 1)) for x in images])


def plain_sums(_, *images, function):
  """Computes `channel_sums` by XLA's reductions."""
  return _sums(*function(*images))


def written_out_sums(runtime_scalar, *images, function):
  """Computes `channel_sums` of sums over four columns: XLA:CPU is three times slower on products in a reduction."""
  turns = math.gcd(images[0].shape[-2], 4)
  columns = [function(*(lax.slice_in_dim(x, i, None, turns, axis=-2) for x in images)) for i in range(turns)]
  sums = [sum(terms) for terms in zip(*columns, strict=True)]
  return compile_separately(_sums, runtime_scalar, *sums)


def channel_sums(runtime_scalar, *images, function):
  """Sums each result of function(*images), which acts on pixels, over all axes but the last: [..., C] → [K, C]."""
  return by_platform(runtime_scalar, *images, cpu=written_out_sums, default=plain_sums, function=function)


# ---- convolution ----


def plain_convolution(x, kernel, strides, padding):
  """Computes `convolution` by XLA's operation, with XLA's own gradients."""
  return lax.conv_general_dilated(x, kernel, strides, [(p, p) for p in padding], dimension_numbers=LAYOUT)


def plain_gradients(x, kernel, cotangent, form, **options):
  """Computes the gradients of form(x, kernel, **options) in x and in the kernel, as XLA derives them."""
  return jax.vjp(functools.partial(form, **options), x, kernel)[1](cotangent)


def canonical_convolution_gradients(x, kernel, cotangent, strides, padding):
  """Computes the same sums as NHWC·HWIO convolutions, the only layout for which XLA:CPU has fast code.

  In a large program or in a loop, XLA:CPU runs the plain gradients on a generic path that is many times slower.
  The gradient of x is the dilated cotangent convolved with the flipped kernel. The barrier keeps XLA from folding the
  transposition back into the convolution. The gradient of the kernel is x, seen as [C, H, W, B], convolved with the
  cotangent as its [H, W, B, D] filter.
  """
  height, width = kernel.shape[:2]
  sizes = zip(kernel.shape[:2], padding, x.shape[1:3], cotangent.shape[1:3], strides, strict=True)
  edges = [(size - 1 - pad, before + pad - 1 - (after - 1) * stride) for size, pad, before, after, stride in sizes]
  flipped = lax.optimization_barrier(kernel[::-1, ::-1].transpose(0, 1, 3, 2))
  x_gradient = lax.conv_general_dilated(
    cotangent, flipped, (1, 1), edges, lhs_dilation=strides, dimension_numbers=LAYOUT
  )

  def kernel_gradient(x, cotangent):
    gradient = lax.conv_general_dilated(
      x.transpose(3, 1, 2, 0),
      cotangent.transpose(1, 2, 0, 3),
      (1, 1),
      [(p, p) for p in padding],
      rhs_dilation=strides,
      dimension_numbers=LAYOUT,
    )
    return gradient[:, :height, :width].transpose(1, 2, 0, 3)

  return x_gradient, compile_separately(kernel_gradient, kernel.ravel()[0], x, cotangent)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolution(x, kernel, strides=(1, 1), padding=(0, 0)):
  """Computes a 2-D convolution, the same on every backend: [B, H, W, C] and [K, L, C, D] give [B, H', W', D].

  `strides` are steps down and across. `padding` is the number of rows and columns of zeros on each side, as in PyTorch;
  with a stride it differs from 'SAME'.
  """
  return plain_convolution(x, kernel, strides, padding)


def _convolution_forward(x, kernel, strides, padding):
  return plain_convolution(x, kernel, strides, padding), (x, kernel)


@functools.partial(jax.jit, static_argnums=(0, 1))  # JAX traces this once for each shape, not for each layer
def _convolution_backward(strides, padding, residuals, cotangent):
  options, plain = {'strides': strides, 'padding': padding}, functools.partial(plain_gradients, form=plain_convolution)
  return by_platform(*residuals, cotangent, cpu=canonical_convolution_gradients, default=plain, **options)


convolution.defvjp(_convolution_forward, _convolution_backward)


# ---- depthwise convolution ----


def grouped_depthwise(x, kernel, stride, dilation):
  """Computes `depthwise` by XLA's grouped convolution."""
  pad = (kernel.shape[0] - 1) * dilation // 2
  options = {'rhs_dilation': (dilation, dilation), 'dimension_numbers': LAYOUT, 'feature_group_count': x.shape[-1]}
  return lax.conv_general_dilated(x, kernel, (stride, stride), [(pad, pad)] * 2, **options)


def _shifted_images(padded, size, stride, dilation, height, width):
  """Yields, for each weight of a size×size filter in row-major order, the pixels it meets: [B, height, width, C]."""
  for top in range(0, size * dilation, dilation):
    for left in range(0, size * dilation, dilation):
      end = (padded.shape[0], top + (height - 1) * stride + 1, left + (width - 1) * stride + 1, padded.shape[3])
      yield lax.slice(padded, (0, top, left, 0), end, (1, stride, stride, 1))


def _pad_images(x, low, high, interior=0):
  edges = [(0, 0, 0), *((low, h, interior) for h in high), (0, 0, 0)]
  # without the barrier, XLA computes x again for each shifted image
  return lax.optimization_barrier(lax.pad(x, jnp.zeros((), x.dtype), edges))


def _weighted_sum(padded, weights, **windows):
  """Sums weights[i]·image over the shifted images."""

  def weighted_sum(padded, weights):
    return sum(image * weights[i] for i, image in enumerate(_shifted_images(padded, **windows)))

  # without the separation, XLA fuses the sums of all operations on an image, and looks up weights at each pixel
  return compile_separately(weighted_sum, weights[0, 0], padded, weights)


def shifted_depthwise(x, kernel, stride, dilation):
  """Computes `depthwise` as a sum of shifted images, which XLA:CPU runs far faster."""
  size = kernel.shape[0]
  pad = (size - 1) * dilation // 2
  height, width = ((n - 1) // stride + 1 for n in x.shape[1:3])
  windows = {'size': size, 'stride': stride, 'dilation': dilation, 'height': height, 'width': width}
  return _weighted_sum(_pad_images(x, pad, (pad, pad)), kernel.reshape(size * size, -1), **windows)


def shifted_depthwise_gradients(x, kernel, cotangent, stride, dilation):
  """Computes the gradients of x and of the kernel as sums of shifted images."""
  size = kernel.shape[0]
  pad = (size - 1) * dilation // 2
  cotangent = lax.optimization_barrier(cotangent)
  high = [n + pad - 1 - (m - 1) * stride for n, m in zip(x.shape[1:3], cotangent.shape[1:3], strict=True)]
  padded_cotangent = _pad_images(cotangent, pad, high, stride - 1)

  weights = kernel.reshape(size * size, -1)[::-1]
  windows = {'size': size, 'stride': 1, 'dilation': dilation, 'height': x.shape[1], 'width': x.shape[2]}
  x_gradient = _weighted_sum(padded_cotangent, weights, **windows)
  blocks = math.ceil(cotangent.shape[2] / MOST_COLUMNS)
  missing = -cotangent.shape[2] % blocks  # columns of zeros that fill the last block
  padded = _pad_images(x, pad, (pad, pad + missing * stride))
  cotangent = jnp.pad(cotangent, [(0, 0), (0, 0), (0, missing), (0, 0)])
  products = functools.partial(_filter_products, size=size, blocks=blocks, stride=stride, dilation=dilation)
  # without the separation, XLA stores each shifted image
  kernel_gradient = jnp.sum(compile_separately(products, weights[0, 0], padded, cotangent), axis=(1, 2, 3))
  return x_gradient, kernel_gradient.reshape(kernel.shape).astype(kernel.dtype)


def _filter_products(padded, cotangent, size, blocks, stride, dilation):
  """Sums, for each weight of a filter, pixel·cotangent over blocks of columns: [size, blocks, B, H, size, C].

  The sum over the columns of a block is written out, because XLA:CPU uses no vector instructions in a reduction of
  products. With several blocks a loop over them and the rows of the filter keeps the program small.
  """
  dtype = jnp.promote_types(cotangent.dtype, jnp.float32)
  (batch, height, width, channels), reach = cotangent.shape, (size - 1) * dilation + 1
  columns = width // blocks
  window = (batch, (height - 1) * stride + 1, (columns - 1) * stride + reach, channels)

  def sum_columns(place):
    top, first = place
    rows = lax.dynamic_slice(padded, (0, top, first * stride, 0), window)[:, ::stride]
    own = lax.dynamic_slice_in_dim(cotangent, first, columns, axis=2)
    terms = (rows[:, :, stride * i : stride * i + reach : dilation] * own[:, :, i : i + 1] for i in range(columns))
    return sum(term.astype(dtype) for term in terms)

  places = np.indices((size, blocks)).reshape(2, -1) * [[dilation], [columns]]
  sums = jnp.stack([sum_columns(place) for place in places.T]) if blocks == 1 else lax.map(sum_columns, tuple(places))
  return sums.reshape(size, blocks, batch, height, size, channels)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise(x, kernel, stride=1, dilation=1):
  """Computes a depthwise convolution with zero padding (K − 1)·dilation/2.

  `dilation` is the distance between the pixels that neighbouring weights meet.
  [B, H, W, C], [K, K, 1, C] with odd K → [B, ⌈H/stride⌉, ⌈W/stride⌉, C].
  """
  return _depthwise(x, kernel, stride, dilation)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _depthwise(x, kernel, stride, dilation):
  return by_platform(x, kernel, cpu=shifted_depthwise, default=grouped_depthwise, stride=stride, dilation=dilation)


def _depthwise_forward(x, kernel, stride, dilation):
  return _depthwise(x, kernel, stride, dilation), (x, kernel)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _depthwise_backward(stride, dilation, residuals, cotangent):
  options, plain = {'stride': stride, 'dilation': dilation}, functools.partial(plain_gradients, form=grouped_depthwise)
  return by_platform(*residuals, cotangent, cpu=shifted_depthwise_gradients, default=plain, **options)


depthwise.defvjp(_depthwise_forward, _depthwise_backward)


# ---- pooling ----


def windowed_average_pool(x, stride: int = 1):
  """Computes `average_pool` by XLA's windowed sum."""
  y = nn.avg_pool(x, (3, 3), (stride, stride), ((1, 1), (1, 1)), count_include_pad=False)
  return y.astype(x.dtype)  # Flax divides by float32 counts


def shifted_average_pool(x, stride: int = 1):
  """Computes `average_pool` as sums of shifted images."""
  counts = [np.convolve(np.ones(n), np.ones(3))[1:-1:stride] for n in x.shape[1:3]]  # 2 at the borders, else 3
  sums = depthwise(x, jnp.ones((3, 3, 1, x.shape[3]), x.dtype), stride)
  return sums * (1 / np.outer(*counts))[:, :, None].astype(x.dtype)


def average_pool(x, stride: int = 1):
  """Computes 3×3 means that do not count the padding: [B, H, W, C] → [B, ⌈H/stride⌉, ⌈W/stride⌉, C]."""
  return by_platform(x, cpu=shifted_average_pool, default=windowed_average_pool, stride=stride)


def windowed_max_pool(x, stride: int = 1):
  """Computes `max_pool` by XLA's windowed reduction."""
  return nn.max_pool(x, (3, 3), (stride, stride), ((1, 1), (1, 1)))


def shifted_max_pool(x, stride: int = 1):
  """Computes `max_pool` as maxima of shifted images: XLA:CPU is slow on windows, and slower on their gradients."""
  return _shifted_max_pool(x, stride, x.shape[1:3])


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _shifted_max_pool(x, stride, size):
  return _shifted_max_pool_forward(x, stride, size)[0]


@functools.partial(jax.jit, static_argnums=(1, 2))
def _shifted_max_pool_forward(x, stride, size):
  """Returns the maxima and, as int8, which of the nine shifted images holds each of them."""
  low = jnp.array(-jnp.inf, x.dtype)
  padded = lax.optimization_barrier(lax.pad(x, low, [(0, 0, 0), (1, 1, 0), (1, 1, 0), (0, 0, 0)]))
  images = _shifted_images(padded, 3, stride, 1, *((n - 1) // stride + 1 for n in size))
  maximum = next(images)
  argmax = jnp.zeros(maximum.shape, jnp.int8)
  for i, image in enumerate(images, 1):
    larger = (image > maximum) | jnp.isnan(image)
    maximum, argmax = jnp.where(larger, image, maximum), jnp.where(larger, jnp.int8(i), argmax)
  return lax.optimization_barrier((maximum, argmax))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _shifted_max_pool_backward(stride, size, argmax, cotangent):
  # The cotangent and the argmax of a window are put at its centre in the padded image, whose size is that of x plus 2:
  # stride − 1 pixels lie between two centres, one pixel lies before the first, and `high` pixels lie after the last.
  high = [n - (m - 1) * stride for n, m in zip(size, argmax.shape[1:3], strict=True)]
  edges = [(0, 0, 0), *((1, h, stride - 1) for h in high), (0, 0, 0)]
  padded = lax.optimization_barrier(
    (lax.pad(cotangent, jnp.zeros((), cotangent.dtype), edges), lax.pad(argmax, jnp.int8(-1), edges))
  )
  # A pixel lies in up to nine windows. In the i-th of them, in row-major order, it is at place 8 − i.
  pairs = zip(*(_shifted_images(array, 3, 1, 1, *size) for array in padded), strict=True)
  return (sum(jnp.where(place == 8 - i, image, 0) for i, (image, place) in enumerate(pairs)),)


_shifted_max_pool.defvjp(_shifted_max_pool_forward, _shifted_max_pool_backward)


def max_pool(x, stride: int = 1):
  """Computes 3×3 maxima: [B, H, W, C] → [B, ⌈H/stride⌉, ⌈W/stride⌉, C].

  The gradient goes to the first maximum of a window in row-major order, as in PyTorch.
  """
  return by_platform(x, cpu=shifted_max_pool, default=windowed_max_pool, stride=stride)

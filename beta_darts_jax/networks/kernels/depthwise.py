"""The depthwise convolution.

Legend: B batch, H and W height and width, C channels, K kernel size.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from beta_darts_jax.networks.kernels.convolution import LAYOUT, plain_gradients
from beta_darts_jax.networks.kernels.platform import by_platform, compile_separately
from beta_darts_jax.networks.kernels.shifts import pad_images, shifted_images

MOST_COLUMNS = 32  # of an image, whose products are written out one after another


def grouped_depthwise(x, kernel, stride, dilation):
  """Computes `depthwise` by XLA's grouped convolution."""
  pad = (kernel.shape[0] - 1) * dilation // 2
  options = {'rhs_dilation': (dilation, dilation), 'dimension_numbers': LAYOUT, 'feature_group_count': x.shape[-1]}
  return lax.conv_general_dilated(x, kernel, (stride, stride), [(pad, pad)] * 2, **options)


def _weighted_sum(padded, weights, **windows):
  """Sums weights[i]·image over the shifted images."""

  def weighted_sum(padded, weights):
    return sum(image * weights[i] for i, image in enumerate(shifted_images(padded, **windows)))

  # without the separation, XLA fuses the sums of all operations on an image, and looks up weights at each pixel
  return compile_separately(weighted_sum, weights[0, 0], padded, weights)


def shifted_depthwise(x, kernel, stride, dilation):
  """Computes `depthwise` as a sum of shifted images, which XLA:CPU runs far faster."""
  size = kernel.shape[0]
  pad = (size - 1) * dilation // 2
  height, width = ((n - 1) // stride + 1 for n in x.shape[1:3])
  windows = {'size': size, 'stride': stride, 'dilation': dilation, 'height': height, 'width': width}
  return _weighted_sum(pad_images(x, pad, (pad, pad)), kernel.reshape(size * size, -1), **windows)


def shifted_depthwise_gradients(x, kernel, cotangent, stride, dilation):
  """Computes the gradients of x and of the kernel as sums of shifted images."""
  size = kernel.shape[0]
  pad = (size - 1) * dilation // 2
  cotangent = lax.optimization_barrier(cotangent)
  high = [n + pad - 1 - (m - 1) * stride for n, m in zip(x.shape[1:3], cotangent.shape[1:3], strict=True)]
  padded_cotangent = pad_images(cotangent, pad, high, stride - 1)

  weights = kernel.reshape(size * size, -1)[::-1]
  windows = {'size': size, 'stride': 1, 'dilation': dilation, 'height': x.shape[1], 'width': x.shape[2]}
  x_gradient = _weighted_sum(padded_cotangent, weights, **windows)
  kernel_gradient = _filter_gradient(x, cotangent, size, stride, dilation, runtime_scalar=weights[0, 0])
  return x_gradient, kernel_gradient.reshape(kernel.shape).astype(kernel.dtype)


def _filter_gradient(x, cotangent, size, stride, dilation, runtime_scalar):
  """Sums pixel·cotangent for each weight of the filters: [size, size, C].

  1. If the stride and the dilation have a common factor, the weights meet only some rows and columns. The others are
     dropped.
  2. With a dilation and stride 1 the columns are split, so that the pixels that a filter meets in a row are neighbours.
  3. The columns are cut into blocks of at most MOST_COLUMNS, whose products are written out one after another.
     `missing` columns of zeros fill the last block.
  """
  pad = (size - 1) * dilation // 2
  common = math.gcd(stride, dilation)
  phases = dilation if stride == 1 else 1
  blocks = math.ceil(cotangent.shape[2] / (phases * MOST_COLUMNS))
  missing = -cotangent.shape[2] % (phases * blocks)  # columns of zeros that fill the last block
  padded = pad_images(x, pad, (pad, pad + missing * stride))
  cotangent = jnp.pad(cotangent, [(0, 0), (0, 0), (0, missing), (0, 0)])
  if common > 1:  # the weights meet no other rows and columns
    padded = lax.optimization_barrier(padded[:, ::common, ::common])
    stride, dilation = stride // common, dilation // common
  if phases > 1:
    padded, cotangent = lax.optimization_barrier((_split_columns(padded, phases), _split_columns(cotangent, phases)))
  products = functools.partial(
    _filter_products, size=size, blocks=blocks, stride=stride, dilation=(dilation, dilation // phases)
  )
  # without the separation, XLA stores each shifted image
  return jnp.sum(compile_separately(products, runtime_scalar, padded, cotangent), axis=(1, 2, 3))


def _split_columns(images, phases):
  """Makes an image of every `phases`-th column, for each first column: [B, H, W, C] → [B·phases, H, W/phases, C].

  The pixels that a filter with dilation `phases` meets in a row are then neighbours, so vector instructions read them.
  The parts of an image follow each other, so that devices which share a batch keep their own images.
  """
  batch, height, width, channels = images.shape
  split = images.reshape(batch, height, width // phases, phases, channels)
  return jnp.moveaxis(split, 3, 1).reshape(batch * phases, height, width // phases, channels)


def _filter_products(padded, cotangent, size, blocks, stride, dilation):
  """Sums, for each weight of a filter, pixel·cotangent over blocks of columns: [size, blocks, B, H, size, C].

  `dilation` is that of (rows, columns). The sum over the columns of a block is written out, because XLA:CPU uses no
  vector instructions in a reduction of products. With several blocks a loop over them and the rows of the filter keeps
  the program small.
  """
  dtype = jnp.promote_types(cotangent.dtype, jnp.float32)
  (batch, height, width, channels), reach = cotangent.shape, (size - 1) * dilation[1] + 1
  columns = width // blocks
  window = (batch, (height - 1) * stride + 1, (columns - 1) * stride + reach, channels)

  def sum_columns(place):
    top, first = place
    rows = lax.dynamic_slice(padded, (0, top, first * stride, 0), window)[:, ::stride]
    own = lax.dynamic_slice_in_dim(cotangent, first, columns, axis=2)
    terms = (rows[:, :, stride * i : stride * i + reach : dilation[1]] * own[:, :, i : i + 1] for i in range(columns))
    return sum(term.astype(dtype) for term in terms)

  places = np.indices((size, blocks)).reshape(2, -1) * [[dilation[0]], [columns]]
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

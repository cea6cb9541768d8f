"""Pooling over 3×3 windows.

Legend: B batch, H and W height and width, C channels.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from beta_darts_jax.networks.kernels.platform import by_platform
from beta_darts_jax.networks.kernels.shifts import pad_images, shifted_images


def windowed_average_pool(x, stride: int = 1):
  """Computes `average_pool` by XLA's windowed sum."""
  y = nn.avg_pool(x, (3, 3), (stride, stride), ((1, 1), (1, 1)), count_include_pad=False)
  return y.astype(x.dtype)  # Flax divides by float32 counts


def _window_sums(padded, stride, height, width):
  """Sums nine shifted images of a padded image."""
  # The barrier keeps XLA:CPU from fusing the sum into its users. So it is faster to compile and to run.
  return lax.optimization_barrier(sum(shifted_images(padded, 3, stride, 1, height, width)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))  # the gradients of slices are slow: padded images are added
def _shifted_sums(x, stride, size):
  """Sums the 3×3 windows of images of `size`, which is (H, W): [B, H, W, C] → [B, ⌈H/stride⌉, ⌈W/stride⌉, C]."""
  return _shifted_sums_forward(x, stride, size)[0]


@functools.partial(jax.jit, static_argnums=(1, 2))
def _shifted_sums_forward(x, stride, size):
  return _window_sums(pad_images(x, 1, (1, 1)), stride, *((n - 1) // stride + 1 for n in size)), None


@functools.partial(jax.jit, static_argnums=(0, 1))
def _shifted_sums_backward(stride, size, _, cotangent):
  # As in the max pool, the cotangent of a window is put at its centre in the padded image.
  high = [n - (m - 1) * stride for n, m in zip(size, cotangent.shape[1:3], strict=True)]
  padded = pad_images(lax.optimization_barrier(cotangent), 1, high, stride - 1)
  return (_window_sums(padded, 1, *size),)


_shifted_sums.defvjp(_shifted_sums_forward, _shifted_sums_backward)


def shifted_average_pool(x, stride: int = 1):
  """Computes `average_pool` as a sum of shifted images."""
  counts = [np.convolve(np.ones(n), np.ones(3))[1:-1:stride] for n in x.shape[1:3]]  # 2 at the borders, else 3
  return _shifted_sums(x, stride, x.shape[1:3]) * (1 / np.outer(*counts))[:, :, None].astype(x.dtype)


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
  images = shifted_images(padded, 3, stride, 1, *((n - 1) // stride + 1 for n in size))
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
  pairs = zip(*(shifted_images(array, 3, 1, 1, *size) for array in padded), strict=True)
  return (sum(jnp.where(place == 8 - i, image, 0) for i, (image, place) in enumerate(pairs)),)


_shifted_max_pool.defvjp(_shifted_max_pool_forward, _shifted_max_pool_backward)


def max_pool(x, stride: int = 1):
  """Computes 3×3 maxima: [B, H, W, C] → [B, ⌈H/stride⌉, ⌈W/stride⌉, C].

  The gradient goes to the first maximum of a window in row-major order, as in PyTorch.
  """
  return by_platform(x, cpu=shifted_max_pool, default=windowed_max_pool, stride=stride)

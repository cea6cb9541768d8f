"""Shifted images: the pixels that each weight of a filter meets. Arrays are [batch, height, width, channels]."""

import jax.numpy as jnp
from jax import lax


def shifted_images(padded, size, stride, dilation, height, width):
  """Yields, for each weight of a size×size filter in row-major order, the pixels it meets: [B, height, width, C]."""
  for top in range(0, size * dilation, dilation):
    for left in range(0, size * dilation, dilation):
      end = (padded.shape[0], top + (height - 1) * stride + 1, left + (width - 1) * stride + 1, padded.shape[3])
      yield lax.slice(padded, (0, top, left, 0), end, (1, stride, stride, 1))


def pad_images(x, low, high, interior=0):
  """Pads images with zeros: `low` before the first row and column, `high` (rows, columns) after the last ones.

  `interior` zeros are put between neighbouring rows and columns.
  """
  edges = [(0, 0, 0), *((low, h, interior) for h in high), (0, 0, 0)]
  # without the barrier, XLA computes x again for each shifted image
  return lax.optimization_barrier(lax.pad(x, jnp.zeros((), x.dtype), edges))

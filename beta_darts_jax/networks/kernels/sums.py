"""Sums over pixels, for BatchNorm. Arrays are [..., W, C]: width and channels come last."""

import math

import jax.numpy as jnp
from jax import lax

from beta_darts_jax.networks.kernels.platform import by_platform, compile_separately


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

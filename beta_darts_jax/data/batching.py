"""Which images make a batch: permutations and draws as functions of a seed or key.

Legend: N images, B batch.
"""

import functools
import itertools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from beta_darts_jax.errors import InputError

_ORDER_SALT = 0x6F72  # separates the keys of the data order from the other keys of the same seed


def batches(
  half: tuple[np.ndarray, np.ndarray],
  batch_size: int,
  augmentation: Callable[[jax.Array, jax.Array], jax.Array],
  key: jax.Array,
) -> Iterator[tuple[jax.Array, jax.Array]]:
  """Returns an endless iterator over augmented batches (images float [B, H, W, C], labels int32 [B]).

  It is for your own training loop. Every epoch is a new permutation of the images; the last N mod B images of an epoch
  are dropped. The permutations and the augmentation are functions of `key` alone.

  Args:
    half: (images uint8 [N, H, W, C], labels int32 [N]), such as one of `Dataset.search_splits()`.
    batch_size: B.
    augmentation: (key, images uint8 [B, H, W, C]) → float images [B, H, W, C], hashable: an `Augmentation`, or a
      function. It is compiled once per shape.
    key: from `jax.random.key`.

  Raises:
    InputError: `batch_size` is not in 1 … N.

  Example:
    >>> from beta_darts_jax.data.augmentation import Augmentation
    >>> half = np.zeros((10, 8, 8, 3), np.uint8), np.arange(10, dtype=np.int32)
    >>> images, labels = next(batches(half, 4, Augmentation((0.5,) * 3, (0.2,) * 3), jax.random.key(0)))
    >>> images.shape, labels.shape
    ((4, 8, 8, 3), (4,))
  """
  num_images = len(half[1])
  if not 1 <= batch_size <= num_images:
    raise InputError(f'batch_size={batch_size}: expected 1 … {num_images}, the number of images')
  return _endless(jax.device_put(half), batch_size, augmentation, key)


def _endless(half, batch_size, augmentation, key):
  for epoch in itertools.count():
    order_key, augmentation_key = jax.random.split(jax.random.fold_in(key, epoch))
    order = _permuted_rows(order_key, num_images=len(half[1]), batch_size=batch_size)
    for step, indices in enumerate(np.asarray(order)):
      yield _augmented_batch(half, indices, augmentation_key, step, augmentation=augmentation)


@functools.partial(jax.jit, static_argnames='augmentation')
def _augmented_batch(half, indices, key, step, *, augmentation):
  images, labels = half
  return augmentation(jax.random.fold_in(key, step), jnp.take(images, indices, axis=0)), jnp.take(labels, indices)


@functools.partial(jax.jit, static_argnames=('num_images', 'batch_size'))
def _permuted_rows(key, *, num_images, batch_size):
  """Indices [steps, B] of one epoch."""
  steps = num_images // batch_size
  return jax.random.permutation(key, num_images)[: steps * batch_size].reshape(steps, batch_size)


def epoch_order(seed: int, epoch: int, num_images: int, batch_size: int) -> jax.Array:
  """Returns the indices [steps, B] of one epoch, a permutation that depends on (seed, epoch) only.

  The seed is below 2³². The last N mod B images of the permutation are dropped.
  """
  seed, epoch = jax.device_put((np.uint32(seed), np.int32(epoch)))
  return _epoch_order(seed, epoch, num_images=num_images, batch_size=batch_size)


@functools.partial(jax.jit, static_argnames=('num_images', 'batch_size'))
def _epoch_order(seed, epoch, *, num_images, batch_size):
  key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), _ORDER_SALT), epoch)
  return _permuted_rows(key, num_images=num_images, batch_size=batch_size)


def batch_keys(seed, step) -> jax.Array:
  """Returns the keys of a step [3]: of α's draw, and of the augmentation of the weights' and of α's batch."""
  return jax.random.split(jax.random.fold_in(jax.random.key(seed), step), 3)


def alpha_order(seed: int, first: int, stop: int, num_images: int, batch_size: int) -> jax.Array:
  """Returns the indices [stop − first, B] that a search draws for α in the steps `first` … `stop` − 1."""
  seed, steps = jax.device_put((np.uint32(seed), np.arange(first, stop, dtype=np.int32)))
  return _alpha_order(seed, steps, num_images=num_images, batch_size=batch_size)


@functools.partial(jax.jit, static_argnames=('num_images', 'batch_size'))
def _alpha_order(seed, steps, *, num_images, batch_size):
  def draw(step):
    return distinct_indices(batch_keys(seed, step)[0], num_images, batch_size)

  return lax.map(draw, steps)


def distinct_indices(key, num_images: int, batch_size: int) -> jax.Array:
  """Draws B different indices below N uniformly, [B]: the places of the B largest of N random numbers."""
  return lax.top_k(jax.random.uniform(key, (num_images,)), batch_size)[1]

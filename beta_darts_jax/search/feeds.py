"""How the images of a search come to its training program: they lie on the devices, or they stream.

Both classes have the same methods, and both give the same batches: which images make a batch, and the keys of their
augmentation, are functions of (seed, step).

Legend: M members of a population, B batch, K steps of a block.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from beta_darts_jax.data import Dataset
from beta_darts_jax.data.batching import alpha_order, distinct_indices, epoch_order
from beta_darts_jax.data.lazy import as_lazy
from beta_darts_jax.data.streaming import LevelExamples, level_batches
from beta_darts_jax.runtime.devices import from_local, local_rows, replicate, shard
from beta_darts_jax.runtime.processes import wait_for_all
from beta_darts_jax.search.setup import SearchSetup

SAMPLE = 2000  # images of α's half that a streamed search has on the devices
AHEAD = 2000  # steps whose images are chosen together: starting the worker processes takes seconds
BLOCK_BYTES = 2**26  # of the pixels in a block of steps, for each device


class Block(NamedTuple):
  """What one call of the training program needs.

  Attributes:
    orders: what `take` needs of each member: the order of the images of the epoch [M, steps, B], or, if the images
      stream, the first step of the block [M].
    data: trees of arrays that the members share: all images, or those of the block.
    stop: step at which the call ends.
  """

  orders: Any
  data: Any
  stop: jax.Array


def split_over_data(index):
  """Splits the first axis over 'data', inside a program that is already split over 'population'."""
  return lax.with_sharding_constraint(index, PartitionSpec('data'))


def take_from_halves(setup: SearchSetup) -> Callable:
  """Builds `take(state, order, halves, key)` → the uint8 batches (images, labels) for the weights and for α.

  `order` [steps, B] are the indices of the epoch into the first of `halves`, the (images, labels) of both levels. α's
  batch is drawn from the second one.
  """

  def rows(half, index):
    images, labels = half
    index = split_over_data(index)
    return images[index], labels[index]

  def take(state, order, halves, key):
    weights_half, alpha_half = halves
    drawn = distinct_indices(key, len(alpha_half[1]), setup.batch_size)
    return rows(weights_half, order[state.step % setup.session.steps_per_epoch]), rows(alpha_half, drawn)

  return take


def take_from_block(state, first, block, key):
  """Returns the batches of a step, as `take_from_halves` does, from those of K steps that begin with step `first`."""
  del key  # α's images are drawn already
  return jax.tree.map(lambda batches: split_over_data(batches[state.step - first]), block)


def drawn_order(dataset: Dataset, labels) -> np.ndarray:
  """Returns the order in which samples of a half are drawn. The images of a folder are sorted by class."""
  return np.arange(len(labels)) if dataset.in_order else np.random.default_rng(0).permutation(len(labels))


class ResidentFeed:
  """All images lie on every device."""

  def __init__(self, setup: SearchSetup, dataset: Dataset):
    self._setup = setup
    halves = dataset.search_splits(setup.fraction, setup.alpha_fraction)
    self._num_images = len(halves[0][1])
    self._halves = replicate(halves, setup.mesh)
    self._drawn = [drawn_order(dataset, labels) for _, labels in halves]
    self._placed: tuple[int, jax.Array] | None = None
    self.take = take_from_halves(setup)

  def example(self) -> Block:
    """Returns arguments with which the training program is compiled."""
    return next(self.blocks(None, 0, 0))

  def blocks(self, states, epoch: int, until: int) -> Iterator[Block]:
    """Yields the arguments of each call of the training program up to step `until`: here one call."""
    del states
    yield Block(self._orders(epoch), self._halves, replicate(np.int32(until), self._setup.mesh))

  def _orders(self, epoch):
    if self._placed is None or self._placed[0] != epoch:
      setup = self._setup
      orders = [epoch_order(member.seed, epoch, self._num_images, setup.batch_size) for member in setup.members]
      self._placed = epoch, shard(np.stack(jax.device_get(orders)), setup.mesh, 'population')
    return self._placed[1]

  def sample(self, count: int):
    """Returns `count` images and labels of α's half on the devices, all if `count` is 0 or too large."""
    images, labels = self._halves[1]
    if not 0 < count < len(labels):
      return images, labels
    return tuple(array[self._drawn[1][:count]] for array in (images, labels))

  def fixed_batches(self) -> list:
    """Returns B drawn images and labels of each half on the devices, always the same ones."""
    drawn = [order[: self._setup.batch_size] for order in self._drawn]
    return [(images[rows], labels[rows]) for (images, labels), rows in zip(self._halves, drawn, strict=True)]


class StreamedFeed:
  """Each process reads its rows of the batches, ahead of the devices. Up to SAMPLE images of α's half lie on them."""

  def __init__(self, setup: SearchSetup, dataset: Dataset):
    self._setup = setup
    splits = dataset.search_splits(setup.fraction, setup.alpha_fraction)
    self._image_shape = dataset.image_shape
    self._levels = tuple((as_lazy(images), labels) for images, labels in splits)
    self._rows = local_rows(setup.mesh, setup.batch_size)
    # the number of processes must not matter: blocks of another length are another program, with other last bits
    bytes_of_step = 2 * setup.batch_size * math.prod(dataset.image_shape) // setup.mesh.shape['data']
    self._steps = max(1, min(setup.session.steps_per_dispatch, BLOCK_BYTES // bytes_of_step))
    self._batches: Iterator = iter(())
    self._next = self._end = -1  # step of the next batch, and the step after the last batch
    images, labels = self._levels[1]
    self._drawn = [drawn_order(dataset, labels) for _, labels in splits]
    sample = self._drawn[1][:SAMPLE]
    self._sample = replicate((images.read(sample), labels[sample]), setup.mesh)
    self.take = take_from_block

  def example(self) -> Block:
    """Returns arguments with which the training program is compiled."""
    share = len(self._rows)
    batch = np.zeros((share, *self._image_shape), np.uint8), np.zeros(share, np.int32)
    return self._block([batch, batch], 0, 0)

  def blocks(self, states, epoch: int, until: int) -> Iterator[Block]:
    """Yields the arguments of each call of the training program up to step `until`."""
    first = int(jax.device_get(states.step)[0])
    if self._next != first or self._end == first:
      examples = self._examples(epoch, first)
      batches = level_batches(examples, self._setup.workers)
      one = iter([next(batches)])  # an iterator, because a chain would keep the list and its shared memory
      self._batches, self._end = itertools.chain(one, batches), first + examples.indices.shape[1]
      wait_for_all('streaming')  # workers start at different speeds
    while first < until:
      stop = min(first + self._steps, until)
      batches = [next(self._batches) for _ in range(2 * (stop - first))]
      self._next = stop
      yield self._block(batches, first, stop)
      first = stop

  def _block(self, batches, first, stop) -> Block:
    """Places the batches of the steps `first` … `stop` − 1, those of the weights and of α in turn."""
    mesh = self._setup.mesh
    data = from_local(tuple(self._stack(batches[level::2]) for level in (0, 1)), mesh, axis=1)
    return Block(shard(np.array([first], np.int32), mesh, 'population'), data, replicate(np.int32(stop), mesh))

  def _examples(self, epoch, first) -> LevelExamples:
    """The examples of this process from step `first` to the end of this epoch, or of a later one."""
    setup, steps = self._setup, self._setup.session.steps_per_epoch
    (member,), sizes = setup.members, [len(labels) for _, labels in self._levels]
    epochs = range(epoch, epoch + max(1, AHEAD // steps))
    orders = [epoch_order(member.seed, one, sizes[0], setup.batch_size) for one in epochs]
    weights = np.concatenate(jax.device_get(orders))[first - epoch * steps :]
    alpha = alpha_order(member.seed, first, epochs.stop * steps, sizes[1], setup.batch_size)
    indices = np.stack([weights, jax.device_get(alpha)])
    return LevelExamples(self._levels, indices[..., self._rows], self._rows, first, member.seed)

  def _stack(self, batches):
    """Stacks the batches of up to K steps; the last block of an epoch is filled up with its last batch."""
    batches += [batches[-1]] * (self._steps - len(batches))
    return tuple(np.stack(arrays) for arrays in zip(*batches, strict=True))

  def sample(self, count: int):
    """Returns `count` images and labels of α's half on the devices: at most SAMPLE."""
    return tuple(array[: count or SAMPLE] for array in self._sample)

  def fixed_batches(self) -> list:
    """Returns B drawn images and labels of each level on the devices, always the same ones."""
    drawn = [order[: self._setup.batch_size] for order in self._drawn]
    batches = [(images.read(rows), labels[rows]) for (images, labels), rows in zip(self._levels, drawn, strict=True)]
    return replicate(batches, self._setup.mesh)

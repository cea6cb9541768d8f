"""Batches of images that stay on the disk, read ahead of the devices.

Which images make a batch, and how they are augmented, are functions of a seed and the number of the batch, for any
number of worker processes. So a run resumes with only its step. Each process of a run reads its rows of a batch.

Legend: N images, B batch, b rows of it that a process reads; H, W, C height, width and channels.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from beta_darts_jax.data.lazy import ArrayPictures
from beta_darts_jax.data.workers import stream

Part = tuple[Any, np.ndarray]  # (LazyImages of N images, labels int32 [N])


# ---- a training ----


@dataclasses.dataclass(frozen=True)
class TrainingExamples:
  """The training examples of one process, as an endless sequence: each is a function of k and the fields."""

  part: Part
  seed: int
  batch_size: int
  rows: np.ndarray

  def __len__(self):
    return 2**40

  def __getitem__(self, k):
    images, labels = self.part
    step, row = divmod(int(k), len(self.rows))
    epoch, step_in_epoch = divmod(step, len(labels) // self.batch_size)
    position = step_in_epoch * self.batch_size + int(self.rows[row])  # in the permutation of the epoch
    index = int(_epoch_permutation(self.seed, epoch, len(labels))[position])
    return images.training_image(index, np.random.default_rng((self.seed, epoch, position, 1))), labels[index]


@functools.lru_cache(maxsize=4)
def _epoch_permutation(seed, epoch, num_images):
  return np.random.default_rng((seed, epoch)).permutation(num_images)


def train_batches(
  part: Part, seed: int, batch_size: int, first: int, workers: int, rows: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Yields the batches `first`, `first` + 1, … without end: the rows of this process, (uint8 [b, H, W, C], int32 [b]).

  An epoch has N // B batches.

  Args:
    part: the training images.
    seed: a batch is a function of the seed and its number.
    batch_size: B.
    first: number of the first batch, from 0.
    workers: number of processes that decode; 0 decodes in this process. The batches do not depend on it.
    rows: int [b], the numbers of the rows in the whole batch.
  """
  yield from stream(TrainingExamples(part, seed, batch_size, rows), len(rows), first, workers)


def test_batches(part: Part, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
  """Yields all images of a part once, as they are tested: (uint8 [B, H, W, C], int32 [B], bool [B]).

  The last batch is filled with copies of the last image; the third array is False for these copies.
  """
  images, labels = part
  for begin in range(0, len(labels), batch_size):
    numbers = np.arange(begin, begin + batch_size)
    rows = np.minimum(numbers, len(labels) - 1)
    yield images.read(rows), labels[rows], numbers < len(labels)


# ---- both levels of a search ----


@dataclasses.dataclass(frozen=True)
class LevelExamples:
  """The examples of both levels of a search, in the order of the steps: the rows of one level, then of the other.

  Attributes:
    levels: the images for the weights and for α.
    indices: int [2, steps, b], which images the rows of each level are.
    rows: int [b], the numbers of the rows in the whole batch.
    first: number of the first step.
    seed: seed of the augmentation.
  """

  levels: tuple[Part, ...]
  indices: np.ndarray
  rows: np.ndarray
  first: int
  seed: int

  def __len__(self):
    return self.indices.size

  def __getitem__(self, k):
    _, num_steps, share = self.indices.shape
    step, level, row = (int(i) for i in np.unravel_index(int(k), (num_steps, 2, share)))
    images, labels = self.levels[level]
    index = int(self.indices[level, step, row])
    rng = np.random.default_rng((self.seed, level, self.first + step, int(self.rows[row]), 2))
    return images.training_image(index, rng), labels[index]


def level_batches(examples: LevelExamples, workers: int):
  """Yields (images uint8 [b, H, W, C], labels int32 [b]) of a step's weights, then of its α, then of the next step.

  The images of an array are not worth a worker: this process gathers them.
  """
  in_memory = all(isinstance(images.pictures, ArrayPictures) for images, _ in examples.levels)
  yield from stream(examples, len(examples.rows), first=0, workers=0 if in_memory else workers)

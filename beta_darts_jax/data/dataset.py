"""A data set of images in memory, and how arrays become one."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from beta_darts_jax.data.augmentation import normalize
from beta_darts_jax.errors import InputError

Arrays = tuple[np.ndarray, np.ndarray]  # (images uint8 [N, H, W, C], labels int32 [N])


@dataclasses.dataclass(frozen=True)
class Dataset:
  """Training and test images of one classification problem, in host memory.

  Attributes:
    name: the source, as given to `load` or `from_arrays`.
    train, test: (images uint8 [N, H, W, C], labels int32 [N]).
    num_classes: labels are 0 … num_classes − 1.
    mean, std: per channel, of the training images scaled to 0 … 1.
    in_order: whether the images are in the published order of the data set (CIFAR). Then the halves of a search are
      the first and the last half, as in the official protocol. Otherwise they are drawn with seed 0.
  """

  name: str
  train: Arrays
  test: Arrays
  num_classes: int
  mean: tuple[float, ...]
  std: tuple[float, ...]
  in_order: bool = False

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """(H, W, C)."""
    return self.train[0].shape[1:]

  def normalize(self, images):
    """Returns uint8 images [B, H, W, C] as float images, normalized by `mean` and `std`."""
    return normalize(images, self.mean, self.std)

  def half(self, which: str) -> 'Dataset':
    """Returns this data set with the 'first half' or 'second half' of its training images; 'all' keeps all of them."""
    if which == 'all':
      return self
    first, second = self.search_splits()
    return dataclasses.replace(self, train=second if which == 'second half' else first)

  def subset(self, fraction: float) -> 'Dataset':
    """Returns this data set with a fraction of its training images: the first ones, or a draw with seed 0."""
    kept = self._order()[: int(len(self.train[1]) * fraction)]
    return dataclasses.replace(self, train=_rows(self.train, kept))

  def search_splits(self, fraction: float = 1.0) -> tuple[Arrays, Arrays]:
    """Returns a fraction of each half of the training images: one trains the weights, the other one trains α."""
    order = self._order()
    half = len(order) // 2
    keep = int(half * fraction)
    return _rows(self.train, order[:keep]), _rows(self.train, order[half : half + keep])

  def _order(self):
    num_images = len(self.train[1])
    return np.arange(num_images) if self.in_order else np.random.default_rng(0).permutation(num_images)


def _rows(arrays: Arrays, indices) -> Arrays:
  """Returns the images and labels at `indices`, in ascending order of the index."""
  images, labels = arrays
  indices = np.sort(indices)
  return images[indices], labels[indices]


def from_arrays(
  images: ArrayLike,
  labels: ArrayLike,
  test_images: ArrayLike | None = None,
  test_labels: ArrayLike | None = None,
  name: str = 'arrays',
) -> Dataset:
  """Makes a data set from your own arrays.

  Args:
    images: uint8 [N, H, W, C] or [N, H, W].
    labels: integers [N]; every class 0, 1, … must occur.
    test_images, test_labels: the test set. Without them, a fifth of the images is held out, drawn with seed 0.
    name: the name in messages and reports.

  Raises:
    InputError: wrong types or shapes, a label is missing or negative, or only one class.
  """
  if (test_images is None) != (test_labels is None):
    raise InputError(f'{name}: test_images and test_labels: expected both or neither')
  test = None if test_images is None else (test_images, test_labels)
  return make_dataset(name, (images, labels), test, refuse_gaps=True)


def make_dataset(
  name: str,
  train: tuple,
  test: tuple | None,
  *,
  image_size: int = 0,
  statistics: tuple[Sequence[float], Sequence[float]] | None = None,
  in_order: bool = False,
  refuse_gaps: bool = False,
) -> Dataset:
  """Checks and completes the arrays of a source. Raises InputError if they are not a classification problem.

  `train` and `test` are (images, labels); without `test`, a fifth of the images is held out. `statistics` are (mean,
  std); None computes them from the training images. With `refuse_gaps`, every label up to the largest one must occur.
  """
  train, num_classes = _check(name, *train), _count_classes(name, np.asarray(train[1]), refuse_gaps)
  train, test = (train, _check(name, *test)) if test else _hold_out_a_fifth(train)
  if image_size:
    train, test = (resize(train[0], image_size), train[1]), (resize(test[0], image_size), test[1])
  if (train_shape := train[0].shape[1:]) != (test_shape := test[0].shape[1:]):
    raise InputError(f'{name}: training images {train_shape}, test images {test_shape}: expected one shape')
  if test[1].max() >= num_classes:
    raise InputError(f'{name}: test label {test[1].max()}: expected up to {num_classes - 1}, as in training')
  mean, std = statistics or _channel_statistics(train[0])
  return Dataset(name, train, test, num_classes, tuple(mean), tuple(std), in_order)


def _check(name, images, labels) -> Arrays:
  images, labels = np.asarray(images), np.asarray(labels)
  if images.ndim not in (3, 4) or images.dtype != np.uint8 or not images.size:
    given = f'{images.dtype} {list(images.shape)}'
    raise InputError(f'{name}: images are {given}: expected uint8 [N, H, W, C] or [N, H, W], not empty')
  if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
    raise InputError(f'{name}: labels are {labels.dtype} {list(labels.shape)}: expected {len(images)} integers')
  if labels.min() < 0:
    raise InputError(f'{name}: label {labels.min()}: expected 0, 1, …')
  return images[..., None] if images.ndim == 3 else images, labels.astype(np.int32)


def _count_classes(name, labels, refuse_gaps):
  present = np.unique(labels)
  if len(present) < 2:
    raise InputError(f'{name}: all training labels are {present[0]}: expected two or more classes')
  if refuse_gaps and present[-1] >= len(present):
    missing = int(np.argmax(present != np.arange(len(present))))
    raise InputError(f'{name}: the largest label is {present[-1]}, but label {missing} is missing')
  return int(present[-1]) + 1


def _hold_out_a_fifth(arrays: Arrays) -> tuple[Arrays, Arrays]:
  order = np.random.default_rng(0).permutation(len(arrays[1]))
  num_test = max(1, len(order) // 5)
  return _rows(arrays, order[num_test:]), _rows(arrays, order[:num_test])


def _channel_statistics(images):
  scaled = images.reshape(-1, images.shape[-1]).astype(np.float64) / 255
  return scaled.mean(0).tolist(), np.maximum(scaled.std(0), 1e-3).tolist()


# ---- helpers of the sources ----


def resize(images: np.ndarray, size: int) -> np.ndarray:
  """Resizes uint8 [N, H, W, C] to [N, size, size, C] by area averaging."""
  if images.shape[1:3] == (size, size):
    return images
  if images.shape[-1] == 3:  # PIL resizes RGB images directly, other images channel by channel
    return np.stack([_resize_plane(image, size) for image in images])
  return np.stack([np.dstack([_resize_plane(p, size) for p in np.moveaxis(image, -1, 0)]) for image in images])


def _resize_plane(pixels, size):
  return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BOX))


def stack_images(name: str, images: Sequence[np.ndarray]) -> np.ndarray:
  """Stacks images of one size into [N, H, W, C]. Raises InputError if there are none, or of different sizes."""
  if not images:
    raise InputError(f'{name}: there are no images')
  if (num_shapes := len({image.shape for image in images})) > 1:
    raise InputError(f'{name}: the images have {num_shapes} different sizes: set image_size to resize them')
  return np.stack(images)

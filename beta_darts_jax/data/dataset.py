"""A data set of images in memory, and how arrays become one."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from beta_darts_jax.data.augmentation import normalize
from beta_darts_jax.data.cache import Arrays
from beta_darts_jax.data.lazy import LazyImages
from beta_darts_jax.data.splits import draw_by_class, halve, hold_out
from beta_darts_jax.errors import InputError

_STATISTICS_IMAGES = 5000  # of images on the disk, for their mean and standard deviation


@dataclasses.dataclass(frozen=True)
class Dataset:
  """Training and test images of one classification problem, in host memory or as LazyImages, which stay on the disk.

  Attributes:
    name: the source, as given to `load` or `from_arrays`.
    train, test: (images uint8 [N, H, W, C], labels int32 [N]).
    num_classes: labels are 0 … num_classes − 1.
    mean, std: per channel, of the training images scaled to 0 … 1.
    in_order: whether the images are in the published order of the data set (CIFAR). Then the halves of a search are
      the first and the last half, as in the official protocol. Otherwise they are drawn by class (data/splits.py).
    valid: images that train α in a search, like `train`; None takes half of the training images.
    classes: names of the classes; () if they have numbers only.
    left_out: a sentence about each thing of the source that was not read.
    streamed: whether a run takes its batches from the host or the disk, because the images do not fit a device.
  """

  name: str
  train: Arrays
  test: Arrays
  num_classes: int
  mean: tuple[float, ...]
  std: tuple[float, ...]
  in_order: bool = False
  valid: Arrays | None = None
  classes: tuple[str, ...] = ()
  left_out: tuple[str, ...] = ()
  streamed: bool = False

  @property
  def class_names(self) -> tuple[str, ...]:
    """The names of the classes, or their numbers as text."""
    return self.classes or tuple(map(str, range(self.num_classes)))

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """(H, W, C)."""
    return self.train[0].shape[1:]

  @property
  def num_bytes(self) -> int:
    """The bytes of the pixels of the training and validation images."""
    return sum(math.prod(part[0].shape) for part in (self.train, self.valid) if part)

  def normalize(self, images):
    """Returns uint8 images [B, H, W, C] as float images, normalized by `mean` and `std`."""
    return normalize(images, self.mean, self.std)

  def half(self, which: str) -> 'Dataset':
    """Returns this data set with the 'first half' or 'second half' of its training images; 'all' keeps all of them.

    Raises:
      InputError: `which` is none of these.
    """
    if which == 'all':
      return self
    halves = dict(zip(('first half', 'second half'), self._halves(), strict=True))
    if which not in halves:
      raise InputError(f'part {which!r}: expected all, {" or ".join(halves)}')
    return dataclasses.replace(self, train=_rows(self.train, halves[which]))

  def subset(self, fraction: float) -> 'Dataset':
    """Returns this data set with a fraction of its training images: the first ones, or a draw by class."""
    return dataclasses.replace(self, train=_rows(self.train, self._share(self.train[1], fraction)))

  def class_weights(self, kind: str) -> tuple[float, ...]:
    """Returns the weights of the classes in a loss: () for 'none'; for 'balanced' all classes count the same.

    The balanced weight of a class of n images is N/(K·n), for N training images and K classes. So the mean of the
    weights over the training images is 1.

    Raises:
      InputError: another `kind`.
    """
    if kind not in ('none', 'balanced'):
      raise InputError(f'class weights {kind!r}: expected none or balanced')
    if kind == 'none':
      return ()
    sizes = np.bincount(self.train[1], minlength=self.num_classes)
    return tuple((len(self.train[1]) / (np.count_nonzero(sizes) * np.maximum(sizes, 1))).tolist())

  def search_splits(self, fraction: float = 1.0, alpha_fraction: float = 0.0) -> tuple[Arrays, Arrays]:
    """Returns the (images, labels) that train the weights, and those that train α. No image is in both.

    Without `valid` and `alpha_fraction`: `fraction` of the first half of the training images, and of the second half.
    With `valid`: `fraction` of the training images, and all validation images.
    With `alpha_fraction`: `fraction` and `alpha_fraction` of the training images.
    """
    weights, alpha = self._search_indices(fraction, alpha_fraction)
    return _rows(self.train, weights), _rows(self.valid or self.train, alpha)

  def search_labels(self, fraction: float = 1.0, alpha_fraction: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Returns the labels of `search_splits`."""
    weights, alpha = self._search_indices(fraction, alpha_fraction)
    return self.train[1][weights], (self.valid or self.train)[1][alpha]

  def _search_indices(self, fraction, alpha_fraction):
    labels = self.train[1]
    if self.valid:
      return self._share(labels, fraction), np.arange(len(self.valid[1]))
    if alpha_fraction:
      weights = self._share(labels, fraction)
      rest = np.setdiff1d(np.arange(len(labels)), weights)
      count = int(len(labels) * alpha_fraction)
      return weights, rest[len(rest) - count :] if self.in_order else rest[draw_by_class(labels[rest], count)]
    halves = self._halves()
    return tuple(half[self._share(labels[half], fraction)] for half in halves)

  def _halves(self):
    labels = self.train[1]
    half = len(labels) // 2
    return np.split(np.arange(2 * half), 2) if self.in_order else halve(labels)

  def _share(self, labels, fraction):
    count = int(len(labels) * fraction)
    return np.arange(count) if self.in_order else draw_by_class(labels, count)


def _rows(arrays: Arrays, indices) -> Arrays:
  images, labels = arrays
  return images[indices], labels[indices]


def from_arrays(
  images: ArrayLike,
  labels: ArrayLike,
  test_images: ArrayLike | None = None,
  test_labels: ArrayLike | None = None,
  name: str = 'arrays',
  classes: Sequence[str] = (),
) -> Dataset:
  """Makes a data set from your own arrays.

  Args:
    images: uint8 [N, H, W, C] or [N, H, W].
    labels: integers [N]; every class 0, 1, … must occur.
    test_images, test_labels: the test set. Without them, a fifth of the images of each class is held out.
    name: the name in messages and reports.
    classes: names of the classes; () names them by their numbers.

  Raises:
    InputError: wrong types or shapes, a label is missing or negative, only one class, or not as many names as classes.
  """
  if (test_images is None) != (test_labels is None):
    raise InputError(f'{name}: test_images and test_labels: expected both or neither')
  test = None if test_images is None else (test_images, test_labels)
  return make_dataset(name, (images, labels), test, classes=tuple(map(str, classes)), refuse_gaps=True)


def make_dataset(
  name: str,
  train: tuple,
  test: tuple | None,
  valid: tuple | None = None,
  *,
  image_size: int = 0,
  classes: Sequence[str] = (),
  left_out: tuple[str, ...] = (),
  statistics: tuple[Sequence[float], Sequence[float]] | None = None,
  in_order: bool = False,
  refuse_gaps: bool = False,
) -> Dataset:
  """Checks and completes the arrays of a source. Raises InputError if they are not a classification problem.

  `train`, `test` and `valid` are (images, labels); without `test`, a fifth of the images is held out. `statistics` are
  (mean, std); None computes them from the training images. With `refuse_gaps`, every label up to the largest one must
  occur, and `classes` must have as many names.
  """
  train, num_classes = _check(name, 'training', *train), _count_classes(name, np.asarray(train[1]), refuse_gaps)
  others = {'test': test, 'validation': valid}
  checked = {part: _check(name, part, *arrays) for part, arrays in others.items() if arrays}
  if not test:
    train, checked['test'] = _hold_out_a_fifth(name, train)
  if image_size:
    train = _resize(train, image_size)
    checked = {part: _resize(arrays, image_size) for part, arrays in checked.items()}
  for part, (images, labels) in checked.items():
    if images.shape[1:] != train[0].shape[1:]:
      raise InputError(
        f'{name}: training images {train[0].shape[1:]}, {part} images {images.shape[1:]}: expected one shape'
      )
    if labels.max() >= num_classes:
      raise InputError(f'{name}: {part} label {labels.max()}: expected up to {num_classes - 1}, as in training')
  if classes and (len(classes) < num_classes or (refuse_gaps and len(classes) > num_classes)):
    raise InputError(f'{name}: {len(classes)} names of classes: expected {num_classes}')
  mean, std = statistics or _channel_statistics(train[0])
  return Dataset(
    name=name,
    train=train,
    test=checked['test'],
    num_classes=num_classes,
    mean=tuple(mean),
    std=tuple(std),
    in_order=in_order,
    valid=checked.get('validation'),
    classes=tuple(classes[:num_classes]),
    left_out=left_out,
  )


def _check(name, part, images, labels) -> Arrays:
  which, labels = f'{name}: {part}', np.asarray(labels)
  if not isinstance(images, LazyImages):
    images = check_images(which, np.asarray(images))
  if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
    raise InputError(f'{which} labels are {labels.dtype} {list(labels.shape)}: expected {len(images)} integers')
  if labels.min() < 0:
    raise InputError(f'{which} label {labels.min()}: expected 0, 1, …')
  return images, labels.astype(np.int32)


def check_images(which: str, images: np.ndarray) -> np.ndarray:
  """Returns images [N, H, W, C]. `which` names them in the InputError about their type or shape."""
  if images.ndim not in (3, 4) or images.dtype != np.uint8 or not images.size:
    given = f'{images.dtype} {list(images.shape)}'
    raise InputError(f'{which} images are {given}: expected uint8 [N, H, W, C] or [N, H, W], not empty')
  if images.ndim == 4 and _has_channels_first(images.shape):
    raise InputError(f'{which} images are {list(images.shape)}: expected [N, H, W, C], because channels come last')
  return images[..., None] if images.ndim == 3 else images


def _has_channels_first(shape) -> bool:
  """Whether a shape looks like [N, C, H, W]: few rows and many channels, such as [N, 8, 32, 32]."""
  _, first, height, width = shape
  return width > 4 and (first in (1, 2, 3, 4) or (first < width and height == width))


def _count_classes(name, labels, refuse_gaps):
  present = np.unique(labels)
  if len(present) < 2:
    raise InputError(f'{name}: all training labels are {present[0]}: expected two or more classes')
  if refuse_gaps and present[-1] >= len(present):
    missing = int(np.argmax(present != np.arange(len(present))))
    raise InputError(f'{name}: the largest label is {present[-1]}, but label {missing} is missing')
  return int(present[-1]) + 1


def _hold_out_a_fifth(name, arrays: Arrays) -> tuple[Arrays, Arrays]:
  labels = arrays[1]
  test = hold_out(labels, max(1, len(labels) // 5))
  if not len(test):
    raise InputError(f'{name}: has no test set, and each class has one image: expected two or more to hold some out')
  return _rows(arrays, np.setdiff1d(np.arange(len(labels)), test)), _rows(arrays, test)


def _channel_statistics(images):
  if isinstance(images, LazyImages):
    count = min(len(images), _STATISTICS_IMAGES)
    images = images.read(np.sort(np.random.default_rng(0).permutation(len(images))[:count]))
  scaled = images.reshape(-1, images.shape[-1]).astype(np.float64) / 255
  return scaled.mean(0).tolist(), np.maximum(scaled.std(0), 1e-3).tolist()


def _resize(arrays: Arrays, size: int) -> Arrays:
  return resize(arrays[0], size), arrays[1]


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

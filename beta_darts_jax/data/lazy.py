"""Images that stay on the disk: each is read when a batch needs it.

Legend: N images; H, W, C height, width and channels.
"""

import dataclasses
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from beta_darts_jax.data.crops import ResizedCrops
from beta_darts_jax.errors import InputError


class Pictures(Protocol):
  """Pictures of a source by their places 0, 1, …. Worker processes get a copy of the object.

  Both methods raise InputError if the picture cannot be read.
  """

  def array(self, place: int) -> np.ndarray:
    """Returns a picture as uint8 [H, W, C] in the size of the data set."""

  def picture(self, place: int) -> Image.Image:
    """Returns a picture as RGB in its own size."""


class OnDisk(NamedTuple):
  """A part of a source whose pictures can be read one by one.

  Attributes:
    pictures: by their places.
    num_images: N.
    labels: returns (the places of the N images in order, their labels), int32 [N] each.
    fingerprint: returns the SHA-256 of the names and sizes of the files.
  """

  pictures: 'Pictures'
  num_images: int
  labels: Callable[[], tuple[np.ndarray, np.ndarray]]
  fingerprint: Callable[[], str]

  def first_image(self) -> np.ndarray:
    """Reads an image, uint8 [H, W, C], whose shape all images must have."""
    return self.pictures.array(0)

  def open(self, crops: ResizedCrops | None) -> tuple['LazyImages', np.ndarray]:
    """Returns the images, which stay on the disk, and their labels."""
    places, labels = self.labels()
    shape = crops.image_shape if crops else self.first_image().shape
    return LazyImages(self.pictures, places, shape, crops, self.fingerprint()), labels


@dataclasses.dataclass(frozen=True)
class ArrayPictures:
  """Images of an array in host memory, or mapped from a file."""

  images: np.ndarray

  def array(self, place):
    return self.images[place]

  def picture(self, place):
    image = self.images[place]
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).convert('RGB')


@dataclasses.dataclass(frozen=True)
class LazyImages:
  """Stands for the array uint8 [N, H, W, C] of a part of a data set.

  Attributes:
    pictures: the pictures of the source.
    places: index of each of the N images in the source.
    image_shape: (H, W, C).
    crops: how a picture becomes an image; None takes it as it is.
    fingerprint: SHA-256 of the names and sizes of the files of the source, or of the pixels of an array.
  """

  pictures: Pictures
  places: np.ndarray
  image_shape: tuple[int, ...]
  crops: ResizedCrops | None = None
  fingerprint: str = ''

  def __len__(self):
    return len(self.places)

  @property
  def shape(self) -> tuple[int, ...]:
    """(N, H, W, C)."""
    return len(self), *self.image_shape

  def __getitem__(self, rows: np.ndarray) -> 'LazyImages':
    """Returns some of the images, which are still on the disk."""
    return dataclasses.replace(self, places=self.places[rows])

  def image(self, row: int) -> np.ndarray:
    """Reads an image as it is tested, uint8 [H, W, C]."""
    place = int(self.places[row])
    if self.crops:
      return self.crops.for_test(self.pictures.picture(place))
    if (image := self.pictures.array(place)).shape != self.image_shape:
      expected = '×'.join(map(str, self.image_shape))
      raise InputError(f'picture {place} is {"×".join(map(str, image.shape))}: expected {expected}, or an image_size')
    return image

  def training_image(self, row: int, rng: np.random.Generator) -> np.ndarray:
    """Reads an image as it is trained on, uint8 [H, W, C]. Without crops it is augmented on the device instead."""
    if self.crops is None:
      return self.image(row)
    return self.crops.for_training(self.pictures.picture(int(self.places[row])), rng)

  def read(self, rows: np.ndarray) -> np.ndarray:
    """Reads some images as they are tested, uint8 [n, H, W, C]."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # threads are enough: PIL releases the GIL while it decodes
      return np.stack(list(pool.map(self.image, rows)))


def as_lazy(images: Any, crops: ResizedCrops | None = None) -> LazyImages:
  """Returns images that may be an array [N, H, W, C] as LazyImages.

  `crops` are those of an array. With them the result also has the fingerprint of the array, because it stands for the
  array in a data set.
  """
  if isinstance(images, LazyImages):
    return images
  shape = crops.image_shape if crops else images.shape[1:]
  fingerprint = hashlib.sha256(np.ascontiguousarray(images).data).hexdigest() if crops else ''
  return LazyImages(ArrayPictures(images), np.arange(len(images)), shape, crops, fingerprint)

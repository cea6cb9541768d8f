"""Augmentation on the device: pure functions of a key and a batch.

Legend: B batch; images are [B, H, W, C], uint8 until they are normalized.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax

from beta_darts_jax.errors import InputError


def normalize(images, mean, std, dtype=jnp.float32):
  """Computes (images/255 − mean)/std. uint8 [B, H, W, C] → `dtype` [B, H, W, C]; `mean` and `std` are per channel."""
  return ((images.astype(dtype) / 255) - jnp.asarray(mean, dtype)) / jnp.asarray(std, dtype)


def random_crop(key, images, padding: int):
  """Pads each image with black pixels and crops it to its size at a random place. uint8 [B, H, W, C] → the same."""
  batch, height, width, channels = images.shape
  padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
  corners = jax.random.randint(key, (batch, 2), 0, 2 * padding + 1)

  def crop(image, corner):
    return lax.dynamic_slice(image, (corner[0], corner[1], 0), (height, width, channels))

  return jax.vmap(crop)(padded, corners)


def random_flip(key, images):
  """Mirrors each image horizontally with probability 1/2. [B, H, W, C] → the same."""
  return jnp.where(jax.random.bernoulli(key, 0.5, (len(images), 1, 1, 1)), images[:, :, ::-1], images)


def cutout(key, images, size: int):
  """Sets a size×size box around a random centre of each image to 0. [B, H, W, C] → the same.

  The box is clipped at the borders of the image (DeVries & Taylor, 2017).
  """
  batch, height, width, _ = images.shape
  centre = jax.random.randint(key, (batch, 2, 1), 0, jnp.array([[height], [width]]))
  start, stop = centre - size // 2, centre - size // 2 + size
  row, column = jnp.arange(height), jnp.arange(width)
  inside_rows = (row >= start[:, 0]) & (row < stop[:, 0])  # [B, H]
  inside_columns = (column >= start[:, 1]) & (column < stop[:, 1])  # [B, W]
  inside = inside_rows[:, :, None] & inside_columns[:, None, :]
  return jnp.where(inside[..., None], 0, images)


@dataclasses.dataclass(frozen=True)
class Augmentation:
  """Crop, flip, normalize, cutout, in the order of the official program.

  Attributes:
    mean, std: per channel, of images scaled to 0 … 1.
    crop_padding: pixels of black border before the random crop; 0 means no crop.
    flip: whether half of the images are mirrored.
    cutout: side of the box in pixels; 0 means no cutout.
  """

  mean: tuple[float, ...]
  std: tuple[float, ...]
  crop_padding: int = 4
  flip: bool = True
  cutout: int = 0

  def __call__(self, key, images):
    """uint8 [B, H, W, C] → float32 [B, H, W, C]."""
    crop_key, flip_key, cutout_key = jax.random.split(key, 3)
    if self.crop_padding:
      images = random_crop(crop_key, images, self.crop_padding)
    if self.flip:
      images = random_flip(flip_key, images)
    images = normalize(images, self.mean, self.std)
    return cutout(cutout_key, images, self.cutout) if self.cutout else images


def check_augmentation(crop_padding: int, cutout: int, image_size: tuple[int, int]) -> None:
  """Raises InputError if a crop or a cutout can remove the whole image; `image_size` is (H, W) in pixels."""
  for name, pixels in (('crop_padding', crop_padding), ('cutout', cutout)):
    if pixels >= min(image_size):
      raise InputError(f'{name}={pixels}: expected less than the image size, {min(image_size)}')

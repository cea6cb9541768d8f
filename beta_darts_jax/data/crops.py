"""Random resized crops of pictures of any size, on the host: the augmentation of ImageNet."""

import dataclasses

import numpy as np
from PIL import Image, ImageEnhance


@dataclasses.dataclass(frozen=True)
class ResizedCrops:
  """How a picture becomes an image of size×size pixels.

  Attributes:
    size: height and width in pixels.
    scale: smallest and largest area of a training crop, as a fraction of the picture.
    jitter: strengths of brightness, contrast, saturation and hue; all 0 leaves the colours as they are.
    flip: whether half of the training images are mirrored.
    resize: shorter side of a test image in pixels, before the central crop.
  """

  size: int = 224
  scale: tuple[float, float] = (0.08, 1.0)
  jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.2)
  flip: bool = True
  resize: int = 256

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """(H, W, C) of an image."""
    return self.size, self.size, 3

  def for_training(self, picture: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Returns an augmented image, uint8 [size, size, 3], of an RGB picture."""
    image = random_resized_crop(rng, picture, self.size, self.scale)
    mirror = rng.random() < 0.5  # drawn also without flip, so that flip does not change the other draws
    if mirror and self.flip:
      image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(color_jitter(rng, image, self.jitter) if any(self.jitter) else image)

  def for_test(self, picture: Image.Image) -> np.ndarray:
    """Returns the central crop, uint8 [size, size, 3], of an RGB picture."""
    return np.asarray(center_crop(picture, self.size, self.resize))


def random_resized_crop(rng: np.random.Generator, image, size: int, scale=(0.08, 1.0)):
  """Crops a random box and resizes it to size×size (the augmentation of Inception, as in torchvision).

  The area of the box is a fraction of the image, uniform in `scale`; its aspect is log-uniform in 3/4 … 4/3. If none of
  ten boxes fits into the image, the largest centred box with an aspect in this range is taken.
  """
  width, height = image.size
  for _ in range(10):
    area = width * height * rng.uniform(*scale)
    aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    w, h = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
    if 0 < w <= width and 0 < h <= height:
      left, top = rng.integers(0, width - w + 1), rng.integers(0, height - h + 1)
      break
  else:
    w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    left, top = (width - w) // 2, (height - h) // 2
  return image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + w, top + h))


def color_jitter(rng: np.random.Generator, image, strength=(0.4, 0.4, 0.4, 0.2)):
  """Changes brightness, contrast, saturation and hue in random order.

  The first three are multiplied by a factor in 1 ± strength. The hue is shifted by ± strength of the color circle.
  """
  enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
  for i in rng.permutation(4):
    if i == 3:
      image = _shift_hue(image, rng.uniform(-strength[3], strength[3]))
    else:
      image = enhancers[i](image).enhance(rng.uniform(1 - strength[i], 1 + strength[i]))
  return image


def _shift_hue(image, shift):
  hue, saturation, value = image.convert('HSV').split()
  shifted = (np.asarray(hue, np.int16) + round(shift * 255)) % 256
  return Image.merge('HSV', (Image.fromarray(shifted.astype(np.uint8)), saturation, value)).convert('RGB')


def center_crop(image, size: int, resize: int):
  """Resizes the shorter side to `resize` pixels and crops the central size×size: the usual evaluation."""
  scale = resize / min(image.size)
  image = image.resize([max(size, round(n * scale)) for n in image.size], Image.Resampling.BILINEAR)
  left, top = ((n - size) // 2 for n in image.size)
  return image.crop((left, top, left + size, top + size))

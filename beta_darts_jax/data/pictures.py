"""What an image file shows, as uint8 RGB."""

import dataclasses
import pathlib

import numpy as np
from PIL import Image, ImageOps

from beta_darts_jax.errors import InputError

WITHOUT_RANGE = {'I': '32-bit integers', 'F': '32-bit floats'}
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF


def read_picture(file: pathlib.Path, image_size: int = 0) -> np.ndarray:
  """Reads an image file as uint8 [H, W, 3]; see `to_rgb`.

  Args:
    file: a format that Pillow reads. Of an animation or of several pages, the first image is read.
    image_size: height and width in pixels after area averaging; 0 keeps the size.

  Raises:
    InputError: the file is damaged, is no image, or has a mode without a documented range.
  """
  image = open_picture(file)
  if image_size:
    image = image.resize((image_size, image_size), Image.Resampling.BOX)
  return np.asarray(image)


@dataclasses.dataclass(frozen=True)
class FilePictures:
  """The pictures of image files, as `lazy.Pictures`; `image_size` as in `read_picture`."""

  files: tuple[pathlib.Path, ...]
  image_size: int = 0

  def array(self, place):
    return read_picture(self.files[place], self.image_size)

  def picture(self, place):
    return open_picture(self.files[place])


def open_picture(file: pathlib.Path) -> Image.Image:
  """Reads an image file as RGB. Raises InputError as `read_picture`."""
  try:
    with Image.open(file) as opened:
      return to_rgb(opened)
  except InputError as error:
    raise InputError(f'{file}: {error}') from None
  except Exception as error:  # PIL raises many types for a damaged file
    raise InputError(f'{file}: cannot be read as an image ({error})') from None


def to_rgb(image: Image.Image) -> Image.Image:
  """Returns an opened image as RGB with 8 bits per channel, as an image viewer shows it.

  The EXIF orientation is applied. Transparent pixels are composed on white. Of 16-bit values, the upper 8 bits are
  kept.

  Raises:
    InputError: the values have no documented range (32-bit integers, floats and signed values).
  """
  ImageOps.exif_transpose(image, in_place=True)
  if has_16_bits(image):
    return Image.fromarray(upper_8_bits(image)).convert('RGB')
  if image.mode in WITHOUT_RANGE:
    raise InputError(
      f'mode {image.mode} ({WITHOUT_RANGE[image.mode]}) has no documented range: expected an image with 8 or 16 bits '
      'per channel'
    )
  if 2 in getattr(image, 'tag_v2', {}).get(SAMPLE_FORMAT, (1,)):
    raise InputError('signed values have no documented range: expected an image with 8 or 16 bits per channel')
  transparent = image.info.get('transparency')
  if isinstance(transparent, tuple) and max(transparent) > 255:  # of 16 bits, but Pillow keeps the upper 8 bits
    image.info['transparency'] = tuple(value >> 8 for value in transparent)
  if not image.has_transparency_data:
    return image.convert('RGB')
  white = Image.new('RGBA', image.size, 'white')
  return Image.alpha_composite(white, image.convert('RGBA')).convert('RGB')


def has_16_bits(image) -> bool:
  """Returns whether an image has 16 bits per channel.

  Pillow has three modes of 16-bit grey. It gives mode I to PGM files, whose values it scales to 16 bits.
  """
  return image.mode.startswith('I;16') or (image.mode == 'I' and image.format == 'PPM')


def upper_8_bits(image) -> np.ndarray:
  """Returns uint8 [H, W]. A TIFF file may use 12 of the 16 bits. A PNG file may name one transparent value."""
  values = np.asarray(image).astype(np.int32)
  tags = image.tag_v2 if image.format == 'TIFF' else {}
  grey = values >> (tags.get(BITS_PER_SAMPLE, (16,))[0] - 8)
  if tags.get(PHOTOMETRIC) == 0:  # white is 0
    grey = 255 - grey
  return np.where(values == image.info.get('transparency', -1), 255, grey).astype(np.uint8)

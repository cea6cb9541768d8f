"""A picture of each kind is read as what it shows. The expected pixels are written out."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from beta_darts_jax import InputError, data
from beta_darts_jax.data.crops import ResizedCrops
from beta_darts_jax.data.lazy import LazyImages
from beta_darts_jax.data.pictures import read_picture
from beta_darts_jax.data.tfds import RecordPictures

ORIENTATION = 274  # tag of EXIF
RAMP = np.arange(0, 65536, 4096, np.uint16).reshape(4, 4)  # 16-bit grey; its upper 8 bits are 0, 16, …, 240
SHOWN = np.arange(0, 256, 16, np.uint8).reshape(4, 4)
COLOURS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)


def saved(path, pixels, mode=None, **options):
  """Saves pixels and reads them back."""
  (Image.fromarray(pixels) if mode is None else Image.fromarray(pixels).convert(mode)).save(path, **options)
  return read_picture(path)


@pytest.mark.parametrize('suffix', ['png', 'tif', 'pgm', 'jp2'])
def test_of_16_bit_grey_the_upper_8_bits_are_read(tmp_path, suffix):
  pixels = saved(tmp_path / f'x.{suffix}', RAMP)
  np.testing.assert_array_equal(pixels, np.repeat(SHOWN[..., None], 3, axis=2))


def test_a_tiff_file_may_use_12_bits(tmp_path):
  """Two values of 12 bits lie in three bytes. Pillow does not write such files."""
  first, second = (RAMP >> 4).reshape(-1, 2).T.astype(int)
  packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1).astype(np.uint8).tobytes()
  tags = {256: 4, 257: 4, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 4, 279: len(packed)}
  entries = b''.join(struct.pack('<HHII', tag, 4, 1, value) for tag, value in tags.items())
  header = struct.pack('<2sHI', b'II', 42, 8 + len(packed))
  (tmp_path / 'x.tif').write_bytes(header + packed + struct.pack('<H', len(tags)) + entries + bytes(4))
  np.testing.assert_array_equal(read_picture(tmp_path / 'x.tif')[..., 0], SHOWN)


def test_a_16_bit_tiff_file_may_have_white_at_0(tmp_path):
  pixels = saved(tmp_path / 'x.tif', RAMP, tiffinfo={262: 0})  # the tag says whether 0 is white
  np.testing.assert_array_equal(pixels[..., 0], 255 - SHOWN)


@pytest.mark.parametrize('dtype, mode', [(np.int32, 'I'), (np.float32, 'F')])
def test_values_without_a_documented_range_are_refused_by_file_and_mode(tmp_path, dtype, mode):
  with pytest.raises(InputError, match=rf'x\.tif: mode {mode} \(32-bit .*expected an image with 8 or 16 bits'):
    saved(tmp_path / 'x.tif', RAMP.astype(dtype))


@pytest.mark.parametrize('orientation', range(1, 9))
def test_the_exif_orientation_is_applied(tmp_path, orientation):
  """The tag says where the first row and the first column of the stored picture are shown."""
  exif = Image.Exif()
  exif[ORIENTATION] = orientation
  pixels = saved(tmp_path / 'x.png', COLOURS, exif=exif)
  transposed = COLOURS.swapaxes(0, 1)
  shown = {
    1: COLOURS, 2: COLOURS[:, ::-1], 3: COLOURS[::-1, ::-1], 4: COLOURS[::-1],
    5: transposed, 6: transposed[:, ::-1], 7: transposed[::-1, ::-1], 8: transposed[::-1],
  }  # fmt: skip
  np.testing.assert_array_equal(pixels, shown[orientation])


@pytest.mark.parametrize('mode', ['RGBA', 'LA', 'P', 'I;16'])
def test_transparent_pixels_are_white(tmp_path, mode):
  """The left half is opaque black, the right half is transparent black."""
  alpha = np.zeros((4, 4), np.uint8)
  alpha[:, :2] = 255
  options = {}
  if mode == 'P':
    pixels, options = (alpha == 0).astype(np.uint8), {'transparency': 1}
    image = Image.fromarray(pixels).convert('P')
    image.putpalette([0] * 768)
  elif mode == 'I;16':
    image, options = Image.fromarray(np.where(alpha, 0, 300).astype(np.uint16)), {'transparency': 300}
  else:
    image = Image.new(mode, (4, 4), 0)
    image.putalpha(Image.fromarray(alpha))
  image.save(tmp_path / 'x.png', **options)
  assert read_picture(tmp_path / 'x.png')[0, :, 0].tolist() == [0, 0, 255, 255]


@pytest.mark.parametrize('mode, suffix', [('1', 'png'), ('L', 'bmp'), ('P', 'gif'), ('RGB', 'png'), ('CMYK', 'tif')])
def test_other_modes_are_converted_by_pillow(tmp_path, mode, suffix):
  pixels = saved(tmp_path / f'x.{suffix}', COLOURS, mode)
  with Image.open(tmp_path / f'x.{suffix}') as image:
    np.testing.assert_array_equal(pixels, image.convert('RGB'))


def test_streamed_pictures_are_read_in_the_same_way():
  exif = Image.Exif()
  exif[ORIENTATION] = 6
  buffer = io.BytesIO()
  Image.fromarray(np.repeat(RAMP[:2], 2, axis=1)).save(buffer, 'PNG', exif=exif)  # 2×8, shown as 8×2
  pictures = RecordPictures('s', (), [{'image': buffer.getvalue()}])
  images = LazyImages(pictures, np.arange(1), (2, 2, 3), ResizedCrops(2, resize=2)).read(np.arange(1))
  centre = np.repeat(SHOWN[:2], 2, axis=1).T[3:5, ::-1]
  np.testing.assert_array_equal(images[0, ..., 0], centre)


def test_signed_values_are_refused(tmp_path):
  Image.new('L', (2, 2), 156).save(tmp_path / 'x.tif', tiffinfo={339: 2})  # SampleFormat: signed
  with pytest.raises(InputError, match=r'x\.tif: signed values'):
    read_picture(tmp_path / 'x.tif')


def test_the_transparent_color_of_16_bits_is_white(tmp_path):
  def chunk(kind, content):
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))

  color = struct.pack('>3H', 0x1234, 0x5678, 0x9ABC)
  row = b'\0' + color + struct.pack('>3H', 0, 0, 0xFFFF)
  chunks = {b'IHDR': struct.pack('>IIBBBBB', 2, 1, 16, 2, 0, 0, 0), b'tRNS': color, b'IDAT': zlib.compress(row)}
  content = b''.join(chunk(kind, content) for kind, content in (chunks | {b'IEND': b''}).items())
  (tmp_path / 'x.png').write_bytes(b'\x89PNG\r\n\x1a\n' + content)
  assert read_picture(tmp_path / 'x.png').tolist() == [[[255, 255, 255], [0, 0, 255]]]


@pytest.mark.parametrize('shape', [(6, 3, 32, 32), (6, 4, 32, 32), (6, 8, 32, 32), (6, 1, 28, 28), (6, 4, 32, 48)])
def test_channels_first_are_refused(shape):
  with pytest.raises(InputError, match='channels come last'):
    data.from_arrays(np.zeros(shape, np.uint8), np.arange(6) % 2)


@pytest.mark.parametrize('shape', [(6, 32, 32, 4), (6, 4, 32, 3), (6, 12, 12, 7), (6, 28, 28)])
def test_channels_last_are_not_taken_for_channels_first(shape):
  assert data.from_arrays(np.zeros(shape, np.uint8), np.arange(6) % 2).image_shape == (*shape, 1)[1:4]

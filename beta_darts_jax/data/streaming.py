"""ImageNet-sized data: images decoded and augmented on the host, batch by batch.

A batch is a function of (seed, its number), whatever the number of worker
processes, so resuming needs nothing but the step. Every process of a
distributed run decodes its own part of each training batch, and all of the test
images.
"""

import dataclasses
import functools
import io
import os
import signal
from collections.abc import Iterator, Sequence

import numpy as np

from beta_darts_jax.data.dataset import tfds_folder
from beta_darts_jax.errors import InputError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # the field's, of ImageNet's images scaled to 0 … 1


@dataclasses.dataclass(frozen=True)
class StreamedDataset:
  """Two splits that are read record by record.

  Attributes:
    name: the source.
    train, test: random access to records {'image': encoded bytes, 'label': int}.
    num_classes: labels are 0 … num_classes − 1.
    image_size: height and width in pixels after augmentation.
    flip: mirror half of the training images.
    crop_scale: smallest and largest share of the area of a training crop.
    color_jitter: strengths of brightness, contrast, saturation and hue.
    resize: pixels of the shorter side of a test image before its central crop.
    mean, std: per channel, of images scaled to 0 … 1.
  """

  name: str
  train: Sequence[dict]
  test: Sequence[dict]
  num_classes: int
  image_size: int = 224
  flip: bool = True
  crop_scale: tuple[float, float] = (0.08, 1.0)
  color_jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.2)
  resize: int = 256
  mean: tuple[float, ...] = MEAN
  std: tuple[float, ...] = STD

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """(H, W, C) after augmentation."""
    return self.image_size, self.image_size, 3


def load(source: str = 'imagenet2012', data_dir: str = '', image_size: int = 224, **augmentation) -> StreamedDataset:
  """Opens a prepared TFDS data set of encoded images, without TensorFlow.

  Args:
    source: name in TFDS.
    data_dir: TFDS' folder; '' is TFDS_DATA_DIR, else TFDS' own default.
    image_size: pixels after cropping; 0 is 224.
    augmentation: flip, crop_scale, color_jitter and resize of StreamedDataset.

  Raises:
    InputError: it is not there.
  """
  import tensorflow_datasets as tfds

  builder = tfds.builder(source, data_dir=tfds_folder(data_dir))
  if not builder.is_prepared():
    raise InputError(
      f'{source} is not prepared in {builder.data_dir}: prepare it once where TensorFlow is installed, by '
      f'`tfds build {source} --file_format=array_record`, and set TFDS_DATA_DIR or config.data.data_dir to its folder'
    )
  decoders = {'image': tfds.decode.SkipDecoding()}
  try:
    train, test = (builder.as_data_source(split, decoders=decoders) for split in ('train', 'validation'))
  except Exception as error:  # prepared in another format, or damaged: TFDS raises types of all kinds
    raise InputError(f'{source} in {builder.data_dir} cannot be read: {error}') from None
  return StreamedDataset(
    source, train, test, builder.info.features['label'].num_classes, image_size or 224, **augmentation
  )


# ---- one image, on the host ----


def decode(encoded: bytes):
  """JPEG or PNG bytes → an RGB PIL image."""
  from PIL import Image

  return Image.open(io.BytesIO(encoded)).convert('RGB')


def random_resized_crop(rng: np.random.Generator, image, size: int, scale=(0.08, 1.0)):
  """A random box of a share of the area in `scale` and of aspect 3/4 … 4/3 (log-uniform), resized to size×size.

  Ten boxes are tried; if none fits inside the image, the largest centred one of an allowed aspect is taken.
  """
  from PIL import Image

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
  """Brightness, contrast and saturation by a factor 1 ± strength, hue by ± strength of the circle; in random order."""
  from PIL import Image, ImageEnhance

  def hue(image, shift):
    channels = list(image.convert('HSV').split())
    turned = (np.asarray(channels[0], np.int16) + round(shift * 255)) % 256
    channels[0] = Image.fromarray(turned.astype(np.uint8))
    return Image.merge('HSV', channels).convert('RGB')

  by_factor = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
  for i in rng.permutation(4):
    s = strength[i]
    image = hue(image, rng.uniform(-s, s)) if i == 3 else by_factor[i](image).enhance(rng.uniform(1 - s, 1 + s))
  return image


def center_crop(image, size: int, resize: int):
  """The shorter side resized to `resize` pixels, then the central size×size: the field's evaluation."""
  from PIL import Image

  scale = resize / min(image.size)
  image = image.resize([max(size, round(n * scale)) for n in image.size], Image.Resampling.BILINEAR)
  left, top = ((n - size) // 2 for n in image.size)
  return image.crop((left, top, left + size, top + size))


# ---- batches ----


def _record(dataset: StreamedDataset, split: str, i: int):
  """(RGB PIL image, label) of record i. Raises InputError where it is damaged."""
  try:
    record = getattr(dataset, split)[i]
    return decode(record['image']), np.int32(record['label'])
  except Exception as error:  # array_record and PIL raise types of all kinds
    raise InputError(f'{dataset.name}: record {i} for {split}ing cannot be read ({error})') from None


class _Examples:
  """Random access to the augmented training examples that this process sees, one after the other for ever.

  Example k is of batch k // share; that batch's records are a permutation of (seed, epoch).
  """

  def __init__(self, dataset: StreamedDataset, seed: int, batch_size: int, process: int, processes: int):
    self._dataset, self._seed, self._batch_size = dataset, seed, batch_size
    self._share, self._process = batch_size // processes, process
    self._steps = len(dataset.train) // batch_size
    self._order = functools.lru_cache(maxsize=2)(self._permutation)

  def __getstate__(self):  # goes to worker processes; each makes its own permutations
    return {name: value for name, value in self.__dict__.items() if name != '_order'}

  def __setstate__(self, state):
    self.__dict__ |= state
    self._order = functools.lru_cache(maxsize=2)(self._permutation)

  def _permutation(self, epoch):
    return np.random.default_rng((self._seed, epoch)).permutation(len(self._dataset.train))

  def __len__(self):
    return 2**40

  def __getitem__(self, k):
    step, i = divmod(int(k), self._share)
    epoch, step_in_epoch = divmod(step, self._steps)
    position = step_in_epoch * self._batch_size + self._process * self._share + i
    dataset = self._dataset
    image, label = _record(dataset, 'train', int(self._order(epoch)[position]))
    rng = np.random.default_rng((self._seed, epoch, position, 1))
    image = random_resized_crop(rng, image, dataset.image_size, dataset.crop_scale)
    if rng.random() < 0.5 and dataset.flip:
      image = image.transpose(0)  # left to right
    return np.asarray(color_jitter(rng, image, dataset.color_jitter)), label


def train_batches(
  dataset: StreamedDataset, seed: int, batch_size: int, first: int, workers: int, process: int = 0, processes: int = 1
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Batches number `first`, `first` + 1, … for ever: this process' share of (uint8 [B, S, S, 3], int32 [B]).

  Args:
    dataset: as from `load`.
    seed: with the number of a batch it determines the batch.
    batch_size: B of all processes together, a multiple of `processes`.
    first: number of the first batch; epochs have len(train) // batch_size of them.
    workers: processes that decode; 0 decodes in this one. The batches do not depend on it.
    process, processes: which share.
  """
  import grain
  from absl import flags

  if not flags.FLAGS.is_parsed():  # grain reads flags; notebooks and tests have none
    flags.FLAGS.mark_as_parsed()
  read = grain.ReadOptions(num_threads=int(workers > 0), prefetch_buffer_size=1)  # elements are whole batches
  share = batch_size // processes
  examples = grain.MapDataset.source(_Examples(dataset, seed, batch_size, process, processes))
  batches = examples[first * share :].batch(share)
  stream = batches.to_iter_dataset(read)
  if workers:
    stream = stream.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers), _ignore_interrupt)
  yield from iter(stream)


def _ignore_interrupt(*_):
  """In a worker: Ctrl-C reaches the whole group, and the main process still needs batches until it has saved."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)


def test_batches(dataset: StreamedDataset, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
  """All test images once: (uint8 [B, S, S, 3], int32 [B], bool [B]: counts); the last batch is filled up."""
  from concurrent.futures import ThreadPoolExecutor

  def example(i):
    image, label = _record(dataset, 'test', min(i, len(dataset.test) - 1))
    return np.asarray(center_crop(image, dataset.image_size, dataset.resize)), label

  with ThreadPoolExecutor(os.cpu_count()) as pool:  # PIL decodes without Python's lock
    for begin in range(0, len(dataset.test), batch_size):
      rows = range(begin, begin + batch_size)
      images, labels = zip(*pool.map(example, rows), strict=True)
      yield np.stack(images), np.stack(labels), np.array(rows) < len(dataset.test)

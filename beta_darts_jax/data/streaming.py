"""ImageNet-sized data: images are decoded and augmented on the host, batch by batch.

A batch is a function of (seed, number of the batch), for any number of worker processes. So a run resumes with only its
step. Every process of a distributed run decodes its part of each training batch, and all test images.
"""

import dataclasses
import functools
import io
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, ImageEnhance

from beta_darts_jax.data.augmentation import normalize
from beta_darts_jax.data.pictures import to_rgb
from beta_darts_jax.data.tfds import check_prepared, fingerprint, tfds_folder
from beta_darts_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class StreamedDataset:
  """A training and a test split that are read record by record.

  Attributes:
    name: the source.
    train, test: random access to records {'image': encoded bytes, 'label': int}.
    num_classes: labels are 0 … num_classes − 1.
    image_size: height and width in pixels after augmentation.
    flip: whether half of the training images are mirrored.
    crop_scale: smallest and largest area of a training crop, as a fraction of the image.
    color_jitter: strengths of brightness, contrast, saturation and hue.
    resize: shorter side of a test image in pixels, before the central crop.
    mean, std: per channel, of images scaled to 0 … 1. The defaults are those of ImageNet, as the field uses them.
    classes: names of the classes; () if they have numbers only.
    fingerprints: {'train', 'test'} → SHA-256 of the names and sizes of the files.
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
  mean: tuple[float, ...] = (0.485, 0.456, 0.406)
  std: tuple[float, ...] = (0.229, 0.224, 0.225)
  classes: tuple[str, ...] = ()
  fingerprints: Mapping[str, str] = dataclasses.field(default_factory=dict)

  @property
  def class_names(self) -> tuple[str, ...]:
    """The names of the classes, or their numbers as text."""
    return self.classes or tuple(map(str, range(self.num_classes)))

  def class_weights(self, kind: str) -> tuple[float, ...]:
    """Returns () for 'none'. Raises InputError for 'balanced', since the labels of a stream are not counted."""
    if kind != 'none':
      raise InputError(f'class_weights={kind}: {self.name} is streamed: expected none')
    return ()

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """(H, W, C) after augmentation."""
    return self.image_size, self.image_size, 3

  def normalize(self, images):
    """Returns uint8 images [B, H, W, C] as float images, normalized by `mean` and `std`."""
    return normalize(images, self.mean, self.std)


def load(source: str = 'imagenet2012', data_dir: str = '', image_size: int = 224, **augmentation) -> StreamedDataset:
  """Opens a prepared TFDS data set of encoded images, without TensorFlow.

  Args:
    source: the name in TFDS.
    data_dir: the folder of TFDS; '' means TFDS_DATA_DIR, else the default of TFDS.
    image_size: height and width in pixels after cropping; 0 means 224.
    augmentation: flip, crop_scale, color_jitter and resize of StreamedDataset.

  Raises:
    InputError: the data set is not prepared or cannot be read.
  """
  import tensorflow_datasets as tfds

  builder = tfds.builder(source, data_dir=tfds_folder(data_dir))
  check_prepared(builder, source)
  decoders = {'image': tfds.decode.SkipDecoding()}
  try:
    train, test = (builder.as_data_source(split, decoders=decoders) for split in ('train', 'validation'))
  except Exception as error:  # TFDS raises many types if the files are damaged or have another format
    raise InputError(f'{source} in {builder.data_dir} cannot be read: {error}') from None
  label = builder.info.features['label']
  splits = {'train': 'train', 'test': 'validation'}
  return StreamedDataset(
    source,
    train,
    test,
    label.num_classes,
    image_size=image_size or 224,
    classes=tuple(label.names or ()),
    fingerprints={part: fingerprint(builder, split) for part, split in splits.items()},
    **augmentation,
  )


# ---- one image, on the host ----


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


# ---- batches ----


def _read_record(dataset: StreamedDataset, split: str, index: int):
  """Returns (RGB PIL image, label) of a record. Raises InputError if it is damaged."""
  try:
    record = getattr(dataset, split)[index]
    return to_rgb(Image.open(io.BytesIO(record['image']))), np.int32(record['label'])
  except Exception as error:  # array_record and PIL raise many types for damaged files
    raise InputError(f'{dataset.name}: record {index} of the {split} split cannot be read ({error})') from None


@dataclasses.dataclass(frozen=True)
class _TrainExamples:
  """The augmented training examples of one process, as an endless sequence: each is a function of k and the fields."""

  dataset: StreamedDataset
  seed: int
  batch_size: int
  process: int
  processes: int

  def __len__(self):
    return 2**40

  def __getitem__(self, k):
    dataset = self.dataset
    num_images, share = len(dataset.train), self.batch_size // self.processes
    step, row = divmod(int(k), share)
    epoch, step_in_epoch = divmod(step, num_images // self.batch_size)
    position = step_in_epoch * self.batch_size + self.process * share + row  # in the permutation of the epoch
    index = int(_epoch_permutation(self.seed, epoch, num_images)[position])
    image, label = _read_record(dataset, 'train', index)
    rng = np.random.default_rng((self.seed, epoch, position, 1))
    image = random_resized_crop(rng, image, dataset.image_size, dataset.crop_scale)
    mirror = rng.random() < 0.5  # drawn also without flip, so that flip does not change the other draws
    if mirror and dataset.flip:
      image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(color_jitter(rng, image, dataset.color_jitter)), label


@functools.lru_cache(maxsize=4)
def _epoch_permutation(seed, epoch, num_images):
  return np.random.default_rng((seed, epoch)).permutation(num_images)


def train_batches(
  dataset: StreamedDataset, seed: int, batch_size: int, first: int, workers: int, process: int = 0, processes: int = 1
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Yields the batches `first`, `first` + 1, … without end: the part of this process, (uint8 [b, S, S, 3], int32 [b]).

  B is the batch size, b = B / processes, S the image size. An epoch has len(train) // B batches.

  Args:
    dataset: from `load`.
    seed: a batch is a function of the seed and its number.
    batch_size: B, a multiple of `processes`.
    first: number of the first batch, from 0.
    workers: number of processes that decode; 0 decodes in this process. The batches do not depend on it.
    process, processes: index of this process, and number of processes of the run.
  """
  import grain
  from absl import flags

  if not flags.FLAGS.is_parsed():  # grain reads absl flags, which notebooks and tests do not parse
    flags.FLAGS.mark_as_parsed()
  share = batch_size // processes
  examples = grain.MapDataset.source(_TrainExamples(dataset, seed, batch_size, process, processes))
  batches = examples[first * share :].batch(share)
  # an element is a whole batch, so one thread and a short buffer are enough
  read_options = grain.ReadOptions(num_threads=int(workers > 0), prefetch_buffer_size=1)
  stream = batches.to_iter_dataset(read_options)
  if workers:
    stream = stream.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers), _ignore_interrupt)
  yield from iter(stream)


def _ignore_interrupt(*_):
  """Makes a worker ignore Ctrl-C, which reaches all processes: the main one needs batches until it has saved."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)


def test_batches(dataset: StreamedDataset, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
  """Yields all test images once: (uint8 [B, S, S, 3], int32 [B], bool [B]).

  The last batch is filled with copies of the last image; the third array is False for these copies.
  """
  num_images = len(dataset.test)

  def example(i):
    image, label = _read_record(dataset, 'test', min(i, num_images - 1))
    return np.asarray(center_crop(image, dataset.image_size, dataset.resize)), label

  with ThreadPoolExecutor(os.cpu_count()) as pool:  # threads are enough: PIL releases the GIL while it decodes
    for begin in range(0, num_images, batch_size):
      indices = range(begin, begin + batch_size)
      images, labels = zip(*pool.map(example, indices), strict=True)
      yield np.stack(images), np.stack(labels), np.array(indices) < num_images

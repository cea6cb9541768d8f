"""ImageNet-sized data: images are decoded and augmented on the host, batch by batch.

A batch is a function of (seed, number of the batch), for any number of worker processes. So a run resumes with only its
step. Every process of a distributed run decodes its part of each training batch, and all test images.
"""

import dataclasses
import functools
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from beta_darts_jax.data.augmentation import normalize
from beta_darts_jax.data.crops import ResizedCrops
from beta_darts_jax.data.pictures import to_rgb
from beta_darts_jax.data.tfds import check_prepared, fingerprint, tfds_folder
from beta_darts_jax.data.workers import stream
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
  def crops(self) -> ResizedCrops:
    """How a picture becomes an image."""
    return ResizedCrops(self.image_size, self.crop_scale, self.color_jitter, self.flip, self.resize)

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
    return dataset.crops.for_training(image, np.random.default_rng((self.seed, epoch, position, 1))), label


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
  share = batch_size // processes
  yield from stream(_TrainExamples(dataset, seed, batch_size, process, processes), share, first, workers)


def test_batches(dataset: StreamedDataset, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
  """Yields all test images once: (uint8 [B, S, S, 3], int32 [B], bool [B]).

  The last batch is filled with copies of the last image; the third array is False for these copies.
  """
  num_images = len(dataset.test)

  def example(i):
    image, label = _read_record(dataset, 'test', min(i, num_images - 1))
    return dataset.crops.for_test(image), label

  with ThreadPoolExecutor(os.cpu_count()) as pool:  # threads are enough: PIL releases the GIL while it decodes
    for begin in range(0, num_images, batch_size):
      indices = range(begin, begin + batch_size)
      images, labels = zip(*pool.map(example, indices), strict=True)
      yield np.stack(images), np.stack(labels), np.array(indices) < num_images

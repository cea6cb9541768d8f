"""TFDS data sets without TensorFlow: where they are, how they are read, and how CIFAR is prepared."""

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import os
import pathlib
import re
import tarfile
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image

from beta_darts_jax.data.cache import Arrays, cached
from beta_darts_jax.data.dataset import resize, stack_images
from beta_darts_jax.data.lazy import OnDisk
from beta_darts_jax.data.pictures import to_rgb
from beta_darts_jax.errors import InputError

_OWN_PROTOCOLS = ('digits', 'cifar10', 'cifar100', 'imagenet16_120', 'imagenet2012')

_CACHED = ('cifar10', 'cifar100', 'imagenet16_120')  # decoding them takes long, and they are small when decoded
_RECORDS_AT_ONCE = 100  # decoded pictures of a block are in memory together


def tfds_folder(data_dir: str = '') -> str:
  """Returns the folder of the TFDS data sets: `data_dir`, else $TFDS_DATA_DIR, else the default of TFDS.

  Raises:
    InputError: the folder does not exist (remote folders, such as gs://…, are not checked).
  """
  folder = os.path.expanduser(data_dir or os.environ.get('TFDS_DATA_DIR', ''))
  if folder and '://' not in folder and not os.path.isdir(folder):
    name = 'data_dir' if data_dir else 'TFDS_DATA_DIR'
    raise InputError(f'{name}={folder}: no such folder; create it if data sets should be prepared there')
  default = os.path.expanduser('~/tensorflow_datasets')
  if not folder and default.startswith('~'):
    raise InputError('the user has no home folder: expected TFDS_DATA_DIR=FOLDER')
  return folder or default


def check_prepared(builder, name: str) -> None:
  """Raises InputError, which says how to prepare the data set `name`, unless `builder` finds it prepared."""
  if not builder.is_prepared():
    raise InputError(
      f'{name} is not prepared in {builder.data_dir}: prepare it once where TensorFlow is installed, with '
      f'`tfds build {name} --file_format=array_record`, and set TFDS_DATA_DIR or data_dir to its folder'
    )


def fingerprint(builder, split: str, with_times: bool = False) -> str:
  """Returns the SHA-256 of the names and sizes of the files of a split, and of their times of change if asked for."""
  files = []
  for name in sorted(builder.info.splits[split].filenames):
    stat = (builder.data_path / name).stat()
    files.append((name, stat.length, stat.mtime) if with_times else (name, stat.length))
  return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def open_tfds(source: str, data_dir: str, image_size: int):
  """Opens a data set; prepares cifar10 and cifar100 if necessary.

  Returns:
    ({part: function () → (images, labels)} for the parts train, test and valid that it has, names of the classes,
    sentences about what is left out, {part: function () → OnDisk} unless the decoded images are in the cache), or None
    if TFDS does not know `source`.

  Raises:
    InputError: the data set is not prepared. The functions raise it if the data cannot be read.
  """
  import tensorflow_datasets as tfds

  plain, _, version = source.partition(':')
  if version and plain in _OWN_PROTOCOLS:
    raise InputError(f'{source}: expected {plain}, without a version')
  is_cifar = source in ('cifar10', 'cifar100')
  name = 'imagenet_resized/16x16' if source == 'imagenet16_120' else source
  folder = tfds_folder(data_dir)
  try:
    builder = cifar_builder(source, folder) if is_cifar else tfds.builder(name, data_dir=folder)
  except (tfds.core.registered.DatasetNotFoundError, ValueError):  # ValueError: not the form of a name
    return None
  # a data set may need packages or files that TFDS does not bring; AssertionError: it has no such version
  except (ImportError, OSError, AssertionError) as error:
    text = ' '.join(str(error).split())
    reason = text.partition('}": ')[2] or text  # without TFDS's own beginning
    raise InputError(f'{source}: TFDS cannot open this data set ({reason})') from None
  if is_cifar and not builder.is_prepared():
    _prepare(builder, source)
  check_prepared(builder, name)
  splits = {'train': 'train', 'valid': 'validation', 'test': 'test'}
  if source == 'imagenet2012':  # the images of its split test have no labels
    splits.pop('test')
  parts = {
    part: functools.partial(_read_or_map_split, builder, split, source, image_size)
    for part, split in splits.items()
    if split in builder.info.splits or part == 'train'
  }
  unknown = [split for split in builder.info.splits if split not in splits.values()]
  features = builder.info.features
  classes = getattr(features['label'], 'names', None) if 'label' in features else None
  left_out = tuple(f'the split {split} is left out' for split in unknown)
  on_disk = {part: functools.partial(_on_disk, builder, splits[part], source, image_size) for part in parts}
  has_pictures = 'image' in features and 'label' in features and source not in _CACHED
  return parts, tuple(classes or ()), left_out, on_disk if has_pictures else {}


def _prepare(builder, name):
  print(f'downloading {name} to {builder.data_dir}', flush=True)
  try:
    builder.download_and_prepare(file_format='array_record')
  except Exception as error:  # of the network, the disk or the checksum
    raise InputError(f'{name} is not in {builder.data_dir} and could not be prepared: {error}') from None


def _read_or_map_split(builder, split, source, image_size):
  """Reads a split, or maps it from the cache if its files are still the same ones."""
  read = functools.partial(_read_split, builder, split, source, image_size)
  if source not in _CACHED:
    return read()
  key = f'version 1, {image_size} pixels, {fingerprint(builder, split, with_times=True)}'
  return cached(f'{source}-{split}', key, read)


def _read_split(builder, split, source, image_size):
  with _naming_source(source, builder):
    return read_records(source, _in_blocks(builder.as_data_source(split)), image_size)


@contextlib.contextmanager
def _naming_source(source, builder):
  """Makes an InputError of whatever is raised while a data set is read."""
  try:
    yield
  except InputError:
    raise
  except Exception as error:  # TFDS and array_record raise many types if the files are damaged or have another format
    raise InputError(f'{source} in {builder.data_dir} cannot be read: {error}') from None


# ---- record by record ----


@dataclasses.dataclass(frozen=True)
class RecordPictures:
  """The pictures of TFDS records, as `lazy.Pictures`.

  Attributes:
    name: name of the source and of the split, for messages.
    decoded, encoded: random access to the records, whose images are uint8 [H, W, C] or bytes of a file.
    image_size: as in `sources.load`.
  """

  name: str
  decoded: Any
  encoded: Any
  image_size: int = 0

  def array(self, place):
    with self._naming(place):
      image = self.decoded[place]['image']
    return resize(image[None], self.image_size)[0] if self.image_size else image

  def picture(self, place):
    with self._naming(place):
      return to_rgb(Image.open(io.BytesIO(self.encoded[place]['image'])))

  @contextlib.contextmanager
  def _naming(self, place):
    try:
      yield
    except Exception as error:  # array_record and PIL raise many types for damaged files
      raise InputError(f'{self.name}: record {place} cannot be read ({error})') from None


def _on_disk(builder, split, source, image_size) -> OnDisk:
  import tensorflow_datasets as tfds

  decoders = {'image': tfds.decode.SkipDecoding()}
  with _naming_source(source, builder):
    decoded, encoded = builder.as_data_source(split), builder.as_data_source(split, decoders=decoders)
  return OnDisk(
    RecordPictures(f'{source}, {split}', decoded, encoded, image_size),
    len(encoded),
    functools.partial(_read_or_map_labels, builder, split, source, encoded),
    functools.partial(fingerprint, builder, split),
  )


def _read_or_map_labels(builder, split, source, records) -> Arrays:
  """Returns the order of the records by their `id` if they have one, and the labels in this order."""
  name = f'{re.sub("[^a-zA-Z0-9_]", "-", source)}-{split}-labels'
  key = f'version 1, {fingerprint(builder, split, with_times=True)}'

  def read():
    with _naming_source(source, builder):
      return _read_labels(source, records)

  return cached(name, key, read, files=('places.npy', 'labels.npy'))


def _read_labels(source, records) -> Arrays:
  """Reads all records once, without decoding their images."""
  print(f'reading the labels of {len(records):,} records of {source}', flush=True)
  labels, ids = [], []
  for record in _in_blocks(records):
    _require_image_and_label(source, record)
    labels.append(record['label'])
    ids.append(record.get('id', b''))
  order = np.argsort(np.array(ids), kind='stable')
  return order.astype(np.int32), np.array(labels, np.int32)[order]


def _in_blocks(records):
  """Yields all records. Reads blocks of them, which is faster than one by one."""
  for begin in range(0, len(records), _RECORDS_AT_ONCE):
    yield from records.__getitems__(range(begin, min(begin + _RECORDS_AT_ONCE, len(records))))


def _require_image_and_label(source, record) -> None:
  if not {'image', 'label'} <= record.keys():
    raise InputError(f'{source}: the records have {", ".join(record)}: expected image and label')


# ---- all records ----


def read_records(source: str, records: Iterable[dict], image_size: int) -> tuple[np.ndarray, np.ndarray]:
  """Reads TFDS records into (images, labels), ordered by their `id` if they have one."""
  images, labels, ids = [], [], []
  for record in records:
    _require_image_and_label(source, record)
    if source == 'imagenet16_120' and record['label'] >= 120:
      continue
    image = record['image']
    images.append(resize(image[None], image_size)[0] if image_size else image)
    labels.append(record['label'])
    ids.append(record.get('id', b''))
  order = np.argsort(np.array(ids), kind='stable')
  return stack_images(source, images)[order], np.array(labels, np.int32)[order]


def cifar_builder(name: str, data_dir: str | None = None, url: str | None = None, url_infos=None):
  """Returns the TFDS builder of cifar10 or cifar100, which can prepare the data set without TensorFlow.

  TFDS extracts archives with TensorFlow. This subclass reads the archive with tarfile and leaves the rest to TFDS, so
  the prepared folder is a standard one. `url` and `url_infos` are a mirror of the archive, and its size and checksum.
  """
  import tensorflow_datasets as tfds

  parent: Any = tfds.builder_cls(name)
  registered_name, infos = parent.name, url_infos or parent.url_infos

  class Builder(parent, skip_registration=True):  # type: ignore[call-arg]
    name = registered_name
    url_infos = infos

    def _split_generators(self, dl_manager):
      info = self._cifar_info
      files = _read_archive(dl_manager.download(url or info.url))
      for key, file in zip(info.label_keys, info.label_files, strict=True):
        self.info.features[key].names = files[file].decode().split()
      return {
        'train': self._generate_examples('train_', [files[file] for file in info.train_files]),
        'test': self._generate_examples('test_', [files[file] for file in info.test_files]),
      }

    def _generate_examples(self, prefix, contents):
      return _cifar_examples(prefix, contents, self._cifar_info.label_keys)

  return Builder(data_dir=data_dir)


def _read_archive(path):
  """Reads a tar archive into {file name: bytes}."""
  with tarfile.open(path) as archive:
    files = {pathlib.PurePosixPath(member.name).name: archive.extractfile(member) for member in archive}
    return {name: file.read() for name, file in files.items() if file}  # None is a folder


def _cifar_examples(prefix, contents, label_keys):
  """Yields (index, record) of CIFAR's binary files. A row is the labels and the 3×32×32 pixels of one image."""
  num_labels = len(label_keys)
  rows = np.frombuffer(b''.join(contents), np.uint8).reshape(-1, num_labels + 3072)
  for index, row in enumerate(rows):
    image = Image.fromarray(row[num_labels:].reshape(3, 32, 32).transpose(1, 2, 0))
    labels = {key: int(label) for key, label in zip(label_keys, row, strict=False)}
    yield index, {'id': f'{prefix}{index:05d}', 'image': image, **labels}

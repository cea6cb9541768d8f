"""Sources → uint8 arrays → augmented float batches, the last part as pure functions of a key.

Legend: N images, B batch; images are [N, H, W, C] uint8 until normalised.
"""

import dataclasses
import functools
import os
import pathlib
import tarfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from beta_darts_jax.errors import InputError

# FACTS of the field: mean and standard deviation of the training images, per channel, of 0 … 1
_STATISTICS = {
  'cifar10': ((0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)),
  'cifar100': ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
  'imagenet16_120': (
    (122.68 / 255, 116.66 / 255, 104.01 / 255),
    (63.22 / 255, 61.26 / 255, 65.09 / 255),
  ),
}
_FORMS = 'digits, cifar10, cifar100, imagenet16_120, another name of TFDS, folder:PATH, npz:PATH'


@dataclasses.dataclass(frozen=True)
class Dataset:
  """Training and test images of one classification problem, on the host.

  Attributes:
    name: the source.
    train, test: (images uint8 [N, H, W, C], labels int32 [N]).
    num_classes: labels are 0 … num_classes − 1.
    mean, std: per channel, of images scaled to 0 … 1.
    in_order: the order is the data set's published one, so halves are first and last (CIFAR's protocol).
  """

  name: str
  train: tuple[np.ndarray, np.ndarray]
  test: tuple[np.ndarray, np.ndarray]
  num_classes: int
  mean: tuple[float, ...]
  std: tuple[float, ...]
  in_order: bool = False

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """(H, W, C)."""
    return self.train[0].shape[1:]

  def half(self, which: str) -> 'Dataset':
    """This data set with only the 'first half' or 'second half' of its training images; 'all' is all of it."""
    if which == 'all':
      return self
    return dataclasses.replace(self, train=self.search_splits()[which == 'second half'])

  def subset(self, fraction: float) -> 'Dataset':
    """This data set with a share of its training images: the first in published order, else drawn with seed 0."""
    images, labels = self.train
    order = np.arange(len(labels)) if self.in_order else np.random.default_rng(0).permutation(len(labels))
    kept = np.sort(order[: int(len(labels) * fraction)])
    return dataclasses.replace(self, train=(images[kept], labels[kept]))

  def search_splits(self, fraction: float = 1.0):
    """The two halves of the training images: one trains the weights, the other α.

    Of data in published order the first and the last half; else of an order drawn with seed 0.

    Args:
      fraction: keep this share of each half.

    Returns:
      ((images, labels), (images, labels)).
    """
    images, labels = self.train
    order = np.arange(len(labels)) if self.in_order else np.random.default_rng(0).permutation(len(labels))
    half = len(order) // 2
    keep = int(half * fraction)
    first, last = np.sort(order[:keep]), np.sort(order[half : half + keep])
    return (images[first], labels[first]), (images[last], labels[last])


def load(source: str, data_dir: str = '', image_size: int = 0) -> Dataset:
  """Reads a data set by name.

  Args:
    source: 'digits' (scikit-learn's), 'imagenet16_120' (TFDS imagenet_resized/16x16, labels below 120),
      the name of a TFDS data set, 'folder:PATH' (a sub-folder per class, or train/ and test/ of such), or
      'npz:PATH' (images, labels, and test_images, test_labels if there is a test set). Where a source has no
      test set, a fifth of its images, drawn with seed 0, becomes it.
    data_dir: TFDS' folder; default TFDS_DATA_DIR, else TFDS' own default.
    image_size: height and width in pixels to bring every image to by area averaging; 0 leaves them.

  Raises:
    InputError: no such source, or it cannot be read.
  """
  kind, _, path = source.partition(':')
  if kind in ('folder', 'npz') and not path:
    raise InputError(f'{source!r} needs a path: {kind}:PATH')
  if kind in ('folder', 'npz'):
    train, test = _folder(pathlib.Path(path), image_size) if kind == 'folder' else _npz(pathlib.Path(path))
  elif source == 'digits':
    train, test = _digits(), None
  elif path:
    raise InputError(f'unknown data set {source!r}: allowed are {_FORMS}')
  else:
    train, test = _tfds(source, data_dir, image_size)
  train, test = _checked(source, *train), _checked(source, *test) if test else None
  num_classes = _num_classes(source, train[1])
  if test is None:
    order = np.random.default_rng(0).permutation(len(train[1]))
    held_out = max(1, len(order) // 5)
    test, train = (tuple(a[np.sort(part)] for a in train) for part in (order[:held_out], order[held_out:]))
    if gone := set(test[1].tolist()) - set(train[1].tolist()):
      raise InputError(
        f'{source}: a fifth becomes the test set, with every image of class {min(gone)}; give a test set'
      )
  if image_size:
    train, test = (_resized(train[0], image_size), train[1]), (_resized(test[0], image_size), test[1])
  if train[0].shape[1:] != test[0].shape[1:]:
    shapes = f'training images are {list(train[0].shape[1:])}, test images {list(test[0].shape[1:])}'
    raise InputError(f'{source}: {shapes}; allowed is one shape')
  mean, std = _STATISTICS.get(source) or _statistics(train[0])
  if test[1].max() >= num_classes:
    raise InputError(f'{source}: test labels go up to {test[1].max()}, training labels to {num_classes - 1}')
  return Dataset(source, train, test, num_classes, mean, std, in_order=source in ('cifar10', 'cifar100'))


def _checked(source, images, labels):
  images, labels = np.asarray(images), np.asarray(labels)
  if images.ndim not in (3, 4) or images.dtype != np.uint8 or not images.size:
    given = f'{images.dtype} {list(images.shape)}'
    raise InputError(f'{source}: images are {given}, allowed is uint8 [N > 0, H, W, C] or [N > 0, H, W]')
  if images.ndim == 3:
    images = images[..., None]
  if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
    raise InputError(f'{source}: labels are {labels.dtype} {list(labels.shape)}, allowed are {len(images)} integers')
  if labels.min() < 0 or labels.max() >= 2**31:
    raise InputError(f'{source}: labels are {labels.min()} … {labels.max()}, allowed are 0, 1, …')
  return images, labels.astype(np.int32)


def _num_classes(source, labels):
  present = np.unique(labels)
  if len(present) < 2:
    raise InputError(f'{source}: all training labels are {present[0]}, allowed are two classes or more')
  if source.startswith('npz:') and present[-1] >= len(present):  # a folder has none, TFDS knows what it does
    missing = int(np.argmax(present != np.arange(len(present))))
    raise InputError(f'{source}: labels go up to {present[-1]}, none is {missing}; allowed are 0, 1, … without a gap')
  return int(present[-1]) + 1


def _statistics(images):
  scaled = images.reshape(-1, images.shape[-1]).astype(np.float64) / 255
  return tuple(scaled.mean(0).tolist()), tuple(np.maximum(scaled.std(0), 1e-3).tolist())


def _resized(images, size):
  """Area averaging to [N, size, size, C]."""
  from PIL import Image

  if images.shape[1:3] == (size, size):
    return images
  small = lambda pixels: np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BOX))
  if images.shape[-1] == 3:  # PIL knows
    return np.stack([small(image) for image in images])
  return np.stack([np.dstack([small(plane) for plane in np.moveaxis(image, -1, 0)]) for image in images])


def _digits():
  from sklearn.datasets import load_digits

  digits = load_digits()  # 1,797 images 8×8, values 0 … 16
  return (digits.images * (255 / 16)).round().astype(np.uint8)[..., None], digits.target


def _npz(path):
  try:
    with open(path, 'rb') as opened, np.load(opened, allow_pickle=False) as file:
      arrays = {name: file[name] for name in file.files}
  except FileNotFoundError:
    raise InputError(f'npz:{path}: no such file{_absolute(path)}') from None
  except Exception as error:  # of many types, where the file is damaged
    raise InputError(f'npz:{path}: cannot be read ({error})') from None
  if not {'images', 'labels'} <= arrays.keys():
    raise InputError(f'npz:{path}: has {", ".join(arrays) or "nothing"}; needed are images and labels')
  if ('test_images' in arrays) != ('test_labels' in arrays):
    raise InputError(f'npz:{path}: has {", ".join(arrays)}; test_images and test_labels belong together')
  test = (arrays['test_images'], arrays['test_labels']) if 'test_images' in arrays else None
  return (arrays['images'], arrays['labels']), test


def _absolute(path):
  return '' if path.is_absolute() else f', looked for at {path.absolute()}'


def _folder(path, image_size):
  from PIL import Image

  if not path.is_dir():
    raise InputError(f'folder:{path}: no such folder{_absolute(path)}')
  split = next((name for name in ('test', 'val', 'validation') if (path / name).is_dir()), None)
  roots = [path / 'train', path / split] if split and (path / 'train').is_dir() else [path]
  classes = sorted(folder.name for folder in roots[0].iterdir() if folder.is_dir() and folder.name[0] != '.')

  def read(root):
    files = [(f, k) for k, name in enumerate(classes) for f in sorted((root / name).glob('[!.]*')) if f.is_file()]
    images = []
    for file, _ in files:
      try:
        with Image.open(file) as image:
          image = image.convert('RGB')
          if image_size:
            image = image.resize((image_size, image_size), Image.Resampling.BOX)
          images.append(np.asarray(image))
      except Exception as error:  # PIL raises types of all kinds for damaged files
        raise InputError(f'{file}: not an image that can be read ({error})') from None
    labels = np.array([k for _, k in files], np.int32)
    if root == roots[0] and (empty := set(range(len(classes))) - set(labels.tolist())):
      raise InputError(f'{root / classes[min(empty)]}: has no images; allowed is no empty class')
    return _stacked(f'folder:{path}', images), labels

  if not classes:
    raise InputError(f'folder:{path}: has no class sub-folders')
  if unknown := {f.name for f in roots[-1].iterdir() if f.is_dir() and f.name[0] != '.'} - set(classes):
    raise InputError(f'{roots[-1] / min(unknown)}: no such class in {roots[0]}, which has {", ".join(classes)}')
  return read(roots[0]), read(roots[1]) if len(roots) == 2 else None


def _stacked(source, images):
  if not images:
    raise InputError(f'{source}: has no images')
  shapes = sorted({image.shape for image in images})
  if len(shapes) != 1:
    raise InputError(f'{source}: {len(shapes)} sizes of image; set config.data.image_size to bring them to one')
  return np.stack(images)


def tfds_folder(given: str = '') -> str:
  """The folder of TFDS' data sets: as given, $TFDS_DATA_DIR, or TFDS' own default. Raises InputError."""
  folder = os.path.expanduser(given or os.environ.get('TFDS_DATA_DIR', ''))
  if folder and '://' not in folder and not os.path.isdir(folder):
    name = 'config.data.data_dir' if given else 'TFDS_DATA_DIR'
    raise InputError(f'{name}={folder}: no such folder; make it, if data sets shall be prepared there')
  return folder or os.path.expanduser('~/tensorflow_datasets')


def _tfds(source, data_dir, image_size):
  import tensorflow_datasets as tfds

  cifar = source in ('cifar10', 'cifar100')
  name = 'imagenet_resized/16x16' if source == 'imagenet16_120' else source
  data_dir = tfds_folder(data_dir)
  try:
    builder = cifar_builder(source, data_dir) if cifar else tfds.builder(name, data_dir=data_dir)
  except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:
    raise InputError(f'unknown data set {source!r}: allowed are {_FORMS} ({str(error).splitlines()[0]})') from None
  if not builder.is_prepared():
    if not cifar:
      raise InputError(
        f'{source} is not prepared in {builder.data_dir}: prepare it once where TensorFlow is installed, by '
        f'`tfds build {name} --file_format=array_record`, and set TFDS_DATA_DIR or config.data.data_dir to its folder'
      )
    print(f'downloading {source} to {builder.data_dir}', flush=True)
    try:
      builder.download_and_prepare(file_format='array_record')
    except Exception as error:  # whatever the network, the disk or the checksum says
      raise InputError(f'{source} is not in {builder.data_dir} and could not be prepared: {error}') from None
  splits = builder.info.splits
  second = next((split for split in ('test', 'validation') if split in splits), None)
  try:
    return tuple(
      _read(source, builder.as_data_source(split), image_size) if split else None for split in ('train', second)
    )
  except InputError:
    raise
  except Exception as error:  # array_record raises its own types for damaged files
    raise InputError(f'{source} in {builder.data_dir} cannot be read: {error}') from None


def _read(source, records, image_size):
  """Records of TFDS as arrays; in order of their `id` where they have one."""
  if not hasattr(records, '__getitem__'):
    raise InputError(f'{source}: not a data set of single images')
  images, labels, ids = [], [], []
  for record in records:
    if not {'image', 'label'} <= record.keys():
      raise InputError(f'{source}: its records have {", ".join(record)}; needed are image and label')
    if source == 'imagenet16_120' and record['label'] >= 120:
      continue
    image = record['image']
    images.append(_resized(image[None], image_size)[0] if image_size else image)
    labels.append(record['label'])
    ids.append(record.get('id', b''))
  order = np.argsort(np.array(ids), kind='stable')
  return _stacked(source, images)[order], np.array(labels, np.int32)[order]


def cifar_builder(name: str, data_dir: str | None = None, url: str | None = None, url_infos=None):
  """TFDS's own builder of cifar10 or cifar100, able to prepare without TensorFlow.

  TFDS extracts archives through TensorFlow; this subclass reads them with tarfile and leaves the rest to
  TFDS, so the folder it makes is a standard one.

  Args:
    name: 'cifar10' or 'cifar100'.
    data_dir: TFDS' folder.
    url, url_infos: replace the archive's address and its registered size and checksum (a mirror).
  """
  import tensorflow_datasets as tfds
  from PIL import Image

  parent: Any = tfds.builder_cls(name)
  registered_name, infos = parent.name, url_infos or parent.url_infos

  class Builder(parent, skip_registration=True):  # type: ignore[call-arg]
    name = registered_name
    url_infos = infos

    def _split_generators(self, dl_manager):
      info = self._cifar_info
      blobs = {}
      with tarfile.open(dl_manager.download(url or info.url)) as archive:
        for member in archive.getmembers():
          if member.isfile():
            blobs[pathlib.PurePosixPath(member.name).name] = archive.extractfile(member).read()
      for key, file in zip(info.label_keys, info.label_files, strict=True):
        self.info.features[key].names = blobs[file].decode().split()
      return {
        'train': self._generate_examples('train_', [blobs[file] for file in info.train_files]),
        'test': self._generate_examples('test_', [blobs[file] for file in info.test_files]),
      }

    def _generate_examples(self, prefix, blobs):
      keys = self._cifar_info.label_keys
      index = 0
      for blob in blobs:
        rows = np.frombuffer(blob, np.uint8).reshape(-1, len(keys) + 3072)
        for row in rows:
          image = Image.fromarray(row[len(keys) :].reshape(3, 32, 32).transpose(1, 2, 0))
          labels = {key: int(label) for key, label in zip(keys, row, strict=False)}
          yield index, {'id': f'{prefix}{index:05d}', 'image': image, **labels}
          index += 1

  return Builder(data_dir=data_dir)


# ---- on the device ----


def normalize(images, mean, std, dtype=jnp.float32):
  """uint8 [B, H, W, C] → (images/255 − mean)/std as `dtype`."""
  return ((images.astype(dtype) / 255) - jnp.asarray(mean, dtype)) / jnp.asarray(std, dtype)


def random_crop(key, images, padding: int):
  """Pads with black pixels, then cuts each image out again at its own random place. uint8 [B, H, W, C] → same."""
  batch, height, width, channels = images.shape
  padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
  corners = jax.random.randint(key, (batch, 2), 0, 2 * padding + 1)
  cut = lambda image, corner: lax.dynamic_slice(image, (corner[0], corner[1], 0), (height, width, channels))
  return jax.vmap(cut)(padded, corners)


def random_flip(key, images):
  """Mirrors each image left to right with probability 1/2. [B, H, W, C] → same."""
  return jnp.where(jax.random.bernoulli(key, 0.5, (len(images), 1, 1, 1)), images[:, :, ::-1], images)


def cutout(key, images, size: int):
  """Zeroes a size×size box around a random centre of each image, clipped at the borders. [B, H, W, C] → same."""
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
  """crop → flip → normalise → cutout, the official order; 0 or False leaves a part out."""

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


def check_augmentation(config_data, size: tuple[int, int]) -> None:
  """Raises InputError where crops or cutouts of `config.data` can leave nothing of images of `size` pixels."""
  side = min(size)
  if config_data.crop_padding >= side:
    raise InputError(f'config.data.crop_padding={config_data.crop_padding}: allowed is less than the image, {side}')
  if config_data.cutout >= side:
    raise InputError(f'config.data.cutout={config_data.cutout}: allowed is less than the image, {side}')


@functools.partial(jax.jit, static_argnames=('num_images', 'batch_size'))
def _epoch_order(seed, epoch, num_images, batch_size):
  key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 0x6F72), epoch)
  steps = num_images // batch_size
  return jax.random.permutation(key, num_images)[: steps * batch_size].reshape(steps, batch_size)


def epoch_order(seed, epoch, num_images: int, batch_size: int):
  """Indices [steps, batch_size] of one epoch: a permutation, a function of (seed, epoch); the rest is dropped.

  Args:
    seed: below 2³².
    epoch: from 0.
    num_images: images of the epoch.
    batch_size: indices in a row.
  """
  return _epoch_order(*jax.device_put((np.uint32(seed), np.int32(epoch))), num_images, batch_size)


def distinct_indices(key, num_images: int, batch_size: int):
  """`batch_size` different indices below `num_images`, drawn uniformly: the places of the largest of random numbers."""
  return lax.top_k(jax.random.uniform(key, (num_images,)), batch_size)[1]

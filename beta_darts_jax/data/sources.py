"""Loads a data set by name: digits, TFDS names, folders of images and .npz files."""

import contextlib
import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from beta_darts_jax.data.crops import ResizedCrops
from beta_darts_jax.data.dataset import Arrays, Dataset, check_images, make_dataset, stack_images
from beta_darts_jax.data.folders import PARTS, find_images, fingerprint, part_of, readable
from beta_darts_jax.data.lazy import LazyImages, OnDisk, as_lazy
from beta_darts_jax.data.pictures import FilePictures, read_picture
from beta_darts_jax.data.tfds import open_tfds
from beta_darts_jax.errors import InputError

# mean and standard deviation per channel of the training images scaled to 0 … 1, as the field uses them
_STATISTICS = {
  'cifar10': ((0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)),
  'cifar100': ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
  'imagenet2012': ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
  'imagenet16_120': ((122.68 / 255, 116.66 / 255, 104.01 / 255), (63.22 / 255, 61.26 / 255, 65.09 / 255)),
}
_FORMS = 'digits, cifar10, cifar100, imagenet16_120, NAME, NAME/CONFIG or NAME:VERSION of TFDS, folder:PATH or npz:PATH'
ALPHA_SPLITS = ('half', 'valid')


class _Source(NamedTuple):
  """What a source offers, before its images are read."""

  parts: Mapping[str, Callable[[], Arrays]]  # part ('train', 'valid', 'test') → its reader
  classes: tuple[str, ...] = ()  # names; () means that classes have numbers only
  left_out: tuple[str, ...] = ()  # sentences
  on_disk: Mapping[str, Callable[[], OnDisk]] = {}  # part → its pictures one by one, if the source allows it


@dataclasses.dataclass(frozen=True)
class Residence:
  """Where a run has its images.

  Attributes:
    where: 'device'; 'stream', batch by batch from the disk or the host; or 'auto'.
    limit: 'auto' streams images with more bytes.
    crops: takes random crops of streamed pictures on the host; None augments on the device.
  """

  where: str = 'device'
  limit: int = 0
  crops: ResizedCrops | None = None

  def streams(self, num_bytes: int) -> bool:
    """Returns whether images of so many bytes stream."""
    return self.crops is not None or self.where == 'stream' or (self.where == 'auto' and num_bytes > self.limit)


def load(
  source: str,
  data_dir: str = '',
  image_size: int = 0,
  alpha_split: str = 'half',
  residence: Residence = Residence(),
) -> Dataset:
  """Loads a data set by name.

  Args:
    source: one of
      'digits': scikit-learn's digits, 8×8;
      'imagenet16_120': TFDS imagenet_resized/16x16, labels below 120;
      the name of another TFDS data set, also with a config or a version: NAME/CONFIG:VERSION;
      'folder:PATH': one sub-folder per class; or the folders train, test and valid of such sub-folders;
      'npz:PATH': the arrays images and labels, and optionally test_images and test_labels, valid_images and
        valid_labels, and the names of the classes as classes (see `from_arrays`). The names x_train, y_train, x_test
        and y_test of Keras are known, too.
      Without a test set the validation set is the test set. Without both, a fifth of the images is held out.
    data_dir: the folder of TFDS; '' means TFDS_DATA_DIR, else the default of TFDS.
    image_size: height and width in pixels after area averaging; 0 keeps the size.
    alpha_split: images that train α in a search. 'half': half of the training images; 'valid': the validation set of
      the source, so that all training images train the weights.
    residence: where a run has the images. Streamed images of TFDS and of folders stay on the disk.

  Raises:
    InputError: unknown source, the source cannot be read, or it has no validation set and `alpha_split` is 'valid'.
  """
  if alpha_split not in ALPHA_SPLITS:
    raise InputError(f'alpha_split={alpha_split!r}: expected one of {", ".join(ALPHA_SPLITS)}')
  kind, _, path = source.partition(':')
  found = _open(source, kind, path, data_dir, image_size)
  test_part = 'test' if 'test' in found.parts else 'valid'
  alpha_part = 'valid' if alpha_split == 'valid' else None
  if alpha_part and alpha_part not in found.parts:
    raise InputError(f'alpha_split=valid: {source} has no validation set')
  left_out = [*found.left_out]
  if 'valid' in found.parts and 'valid' not in (test_part, alpha_part):
    left_out.append('the validation set is left out: a search trains α on it with alpha_split=valid only')
  wanted = [part for part in found.parts if part in ('train', test_part, alpha_part)]
  arrays = _read_parts(source, found, wanted, residence, alpha_part)
  is_on_disk = isinstance(arrays['train'][0], LazyImages)
  dataset = make_dataset(
    source,
    arrays['train'],
    test=arrays.get(test_part),
    valid=arrays.get(alpha_part) if alpha_part else None,
    image_size=0 if is_on_disk else image_size,
    classes=found.classes,
    left_out=tuple(left_out),
    statistics=_STATISTICS.get(source),
    in_order=source in ('cifar10', 'cifar100'),
    refuse_gaps=kind == 'npz',
  )
  return dataclasses.replace(dataset, streamed=is_on_disk or residence.streams(dataset.num_bytes))


def _read_parts(
  source: str, found: _Source, wanted: list[str], residence: Residence, alpha_part: str | None
) -> dict[str, tuple]:
  """Returns {part: (images, labels)}; the images are LazyImages if they stream and the source allows it."""
  if found.on_disk and residence.where != 'device':
    opened = {part: found.on_disk[part]() for part in wanted}
    num_images = sum(opened[part].num_images for part in ('train', alpha_part) if part)
    if residence.streams(num_images * opened['train'].first_image().nbytes):
      return {part: pictures.open(residence.crops) for part, pictures in opened.items()}
  arrays = {part: found.parts[part]() for part in wanted}
  if residence.crops:
    return {
      part: (_cropped(f'{source}: {part}', images, residence.crops), labels)
      for part, (images, labels) in arrays.items()
    }
  return arrays


def _cropped(name, images, crops) -> LazyImages:
  images = check_images(name, np.asarray(images))
  if images.shape[-1] not in (1, 3):
    raise InputError(f'{name} images have {images.shape[-1]} channels: expected 1 or 3 with data.crops=resized')
  return as_lazy(images, crops)


def _open(source, kind, path, data_dir, image_size) -> _Source:
  if kind in ('folder', 'npz'):
    if not path:
      raise InputError(f'{source!r}: expected {kind}:PATH')
    full_path = pathlib.Path(os.path.expanduser(path)).absolute()
    return _open_folder(full_path, image_size) if kind == 'folder' else _open_npz(full_path)
  if source == 'digits':
    return _Source({'train': _read_digits})
  if (found := open_tfds(source, data_dir, image_size)) is None:
    hint = f' Did you mean folder:{source}?' if os.path.isdir(source) else ''
    hint = f' Did you mean npz:{source}?' if source.endswith('.npz') else hint
    raise InputError(f'unknown data set {source!r}.{hint} Expected {_FORMS}')
  return _Source(*found)


def _read_digits() -> Arrays:
  from sklearn.datasets import load_digits

  digits = load_digits()  # 1,797 images 8×8, values 0 … 16
  return (digits.images * (255 / 16)).round().astype(np.uint8)[..., None], digits.target


# ---- npz files ----


# prefix of an array's name → part
_PREFIXES = {'': 'train'} | {f'{name}_': part for part, names in PARTS.items() for name in names}
_KERAS = {'x': 'images', 'y': 'labels'}  # x_train is train_images


def _open_npz(path) -> _Source:
  names = _names_in_npz(path)
  given = ', '.join(names.values()) or 'no arrays'
  parts: dict[str, Callable[[], Arrays]] = {}
  unknown = names.keys() - {'classes'}
  for prefix, part in _PREFIXES.items():
    pair = (f'{prefix}images', f'{prefix}labels')
    if not names.keys() & {*pair}:
      continue
    if not names.keys() >= {*pair}:
      raise InputError(f'npz:{path}: has {given}: expected both {prefix}images and {prefix}labels, or neither')
    if part in parts:
      raise InputError(f'npz:{path}: has {given}: expected one {part} set')
    parts[part] = functools.partial(_read_pair, path, *(names[name] for name in pair))
    unknown -= {*pair}
  if 'train' not in parts:
    raise InputError(f'npz:{path}: has {given}: expected images and labels, and optionally test_images and test_labels')
  left_out = ', '.join(sorted(names[name] for name in unknown))
  classes = _class_names(path, names['classes']) if 'classes' in names else ()
  return _Source(parts, classes, (f'arrays of {path} are left out: {left_out}',) if left_out else ())


def _names_in_npz(path) -> dict[str, str]:
  """Returns {usual name: name in the file} of the arrays."""
  names: dict[str, str] = {}
  with _opened_npz(path) as file:
    for name in file.files:
      usual = _usual_name(name)
      if usual in names:
        raise InputError(f'npz:{path}: has {names[usual]} and {name}: expected one of them')
      names[usual] = name
  return names


def _usual_name(name):
  """Returns the name in lower case; a name as Keras has it, such as x_test, becomes test_images."""
  kind, _, part = name.lower().partition('_')
  if kind not in _KERAS or not part_of(part or 'train'):
    return name.lower()
  return f'{part}_{_KERAS[kind]}' if part else _KERAS[kind]


def _class_names(path, name) -> tuple[str, ...]:
  classes = _read_array(path, name)
  if classes.ndim != 1 or classes.dtype.kind not in 'SU':
    raise InputError(f'npz:{path}: {name} are {classes.dtype} {list(classes.shape)}: expected text [K], the names')
  return tuple(name.decode('utf-8', 'replace') if isinstance(name, bytes) else name for name in classes.tolist())


def _read_pair(path, images, labels) -> Arrays:
  return _read_array(path, images), _read_array(path, labels)


def _read_array(path, name) -> np.ndarray:
  with _opened_npz(path, f'array {name} ') as file:
    return file[name]


@contextlib.contextmanager
def _opened_npz(path, what=''):
  """Opens an npz file. What is damaged in it, or holds Python objects, becomes an InputError."""
  try:
    with open(path, 'rb') as opened, np.load(opened, allow_pickle=False) as file:
      yield file
  except InputError:
    raise
  except FileNotFoundError:
    raise InputError(f'npz:{path}: no such file') from None
  except Exception as error:  # numpy and zipfile raise many types for a damaged file
    raise InputError(f'npz:{path}: {what}cannot be read ({error})') from None


# ---- folders ----


def _open_folder(path, image_size) -> _Source:
  found = find_images(path)
  classes = tuple(found.parts['train'])
  parts = {
    part: functools.partial(_read_pictures, path, classes, image_size, files) for part, files in found.parts.items()
  }
  names = tuple(map(readable, classes))
  on_disk = {part: functools.partial(_files_on_disk, classes, image_size, files) for part, files in found.parts.items()}
  return _Source(parts, names, tuple(found.left_out), on_disk)


def _files_on_disk(classes, image_size, files_by_class) -> OnDisk:
  files = tuple(file for files in files_by_class.values() for file in files)

  def labels():
    return np.arange(len(files), dtype=np.int32), _labels(classes, files_by_class)

  return OnDisk(FilePictures(files, image_size), len(files), labels, functools.partial(fingerprint, files_by_class))


def _labels(classes, files_by_class) -> np.ndarray:
  return np.array([classes.index(name) for name, files in files_by_class.items() for _ in files], np.int32)


def _read_pictures(path, classes, image_size, files_by_class) -> Arrays:
  images = [read_picture(file, image_size) for files in files_by_class.values() for file in files]
  return stack_images(f'folder:{path}', images), _labels(classes, files_by_class)

"""Loads a data set by name: digits, TFDS names, folders of images and .npz files."""

import functools
import pathlib

import numpy as np
from PIL import Image

from beta_darts_jax.data.dataset import Dataset, make_dataset, stack_images
from beta_darts_jax.data.tfds import read_tfds
from beta_darts_jax.errors import InputError

# mean and standard deviation per channel of the training images scaled to 0 … 1, as the field uses them
_STATISTICS = {
  'cifar10': ((0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)),
  'cifar100': ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
  'imagenet16_120': ((122.68 / 255, 116.66 / 255, 104.01 / 255), (63.22 / 255, 61.26 / 255, 65.09 / 255)),
}
_FORMS = 'digits, cifar10, cifar100, imagenet16_120, another name of TFDS, folder:PATH or npz:PATH'


def load(source: str, data_dir: str = '', image_size: int = 0) -> Dataset:
  """Loads a data set by name.

  Args:
    source: one of
      'digits': scikit-learn's digits, 8×8;
      'imagenet16_120': TFDS imagenet_resized/16x16, labels below 120;
      the name of another TFDS data set;
      'folder:PATH': one sub-folder per class, or the folders train and test (or val) of such sub-folders;
      'npz:PATH': the arrays images and labels, and optionally test_images and test_labels (see `from_arrays`).
      Without a test set, a fifth of the images is held out, drawn with seed 0.
    data_dir: the folder of TFDS; '' means TFDS_DATA_DIR, else the default of TFDS.
    image_size: height and width in pixels after area averaging; 0 keeps the size.

  Raises:
    InputError: unknown source, or the source cannot be read.
  """
  kind, _, path = source.partition(':')
  if kind in ('folder', 'npz') and not path:
    raise InputError(f'{source!r}: expected {kind}:PATH')
  if kind == 'folder':
    train, test = _read_folder(pathlib.Path(path).absolute(), image_size)
  elif kind == 'npz':
    train, test = _read_npz(pathlib.Path(path).absolute())
  elif source == 'digits':
    train, test = _read_digits(), None
  elif path or (arrays := read_tfds(source, data_dir, image_size)) is None:
    raise InputError(f'unknown data set {source!r}: expected {_FORMS}')
  else:
    train, test = arrays
  return make_dataset(
    source,
    train,
    test,
    image_size=image_size,
    statistics=_STATISTICS.get(source),
    in_order=source in ('cifar10', 'cifar100'),
    refuse_gaps=kind == 'npz',
  )


def _read_digits():
  from sklearn.datasets import load_digits

  digits = load_digits()  # 1,797 images 8×8, values 0 … 16
  return (digits.images * (255 / 16)).round().astype(np.uint8)[..., None], digits.target


def _read_npz(path):
  try:
    with open(path, 'rb') as opened, np.load(opened, allow_pickle=False) as file:
      arrays = {name: file[name] for name in file.files}
  except FileNotFoundError:
    raise InputError(f'npz:{path}: no such file') from None
  except Exception as error:  # numpy and zipfile raise many types for a damaged file
    raise InputError(f'npz:{path}: cannot be read ({error})') from None
  if not {'images', 'labels'} <= arrays.keys() or ('test_images' in arrays) != ('test_labels' in arrays):
    given = ', '.join(arrays) or 'no arrays'
    raise InputError(f'npz:{path}: has {given}: expected images and labels, test_images and test_labels or neither')
  test = (arrays['test_images'], arrays['test_labels']) if 'test_images' in arrays else None
  return (arrays['images'], arrays['labels']), test


def _read_folder(path, image_size):
  if not path.is_dir():
    raise InputError(f'folder:{path}: no such folder')
  test_folder = next((path / name for name in ('test', 'val', 'validation') if (path / name).is_dir()), None)
  has_test = test_folder is not None and (path / 'train').is_dir()
  train_folder = path / 'train' if has_test else path
  train = _files_by_class(train_folder)
  if not train:
    raise InputError(f'folder:{path}: has no class sub-folders')
  if empty := [name for name, files in train.items() if not files]:
    raise InputError(f'{train_folder / empty[0]}: has no images')
  read = functools.partial(_read_images, path, list(train), image_size)
  if not has_test:
    return read(train), None
  test = _files_by_class(test_folder)
  if unknown := test.keys() - train.keys():
    raise InputError(f'{test_folder / min(unknown)}: no such class in {train_folder}: expected {", ".join(train)}')
  return read(train), read(test)


def _files_by_class(folder):
  """Returns {name of a sub-folder: its files}, without hidden ones."""
  folders = sorted(entry for entry in folder.glob('[!.]*') if entry.is_dir())
  return {entry.name: sorted(file for file in entry.glob('[!.]*') if file.is_file()) for entry in folders}


def _read_images(path, classes, image_size, files_by_class):
  images = [_read_image(file, image_size) for files in files_by_class.values() for file in files]
  labels = [classes.index(name) for name, files in files_by_class.items() for _ in files]
  return stack_images(f'folder:{path}', images), np.array(labels, np.int32)


def _read_image(file, image_size):
  try:
    with Image.open(file) as opened:
      image = opened.convert('RGB')
      if image_size:
        image = image.resize((image_size, image_size), Image.Resampling.BOX)
      return np.asarray(image)
  except Exception as error:  # PIL raises many types for a damaged file
    raise InputError(f'{file}: cannot be read as an image ({error})') from None

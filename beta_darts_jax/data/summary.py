"""What was read: a record of the data for the folder of a run, its text, and warnings."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from beta_darts_jax.data.dataset import Arrays, Dataset
from beta_darts_jax.data.lazy import ArrayPictures, LazyImages

PARTS = {'train': 'training', 'valid': 'validation', 'test': 'test'}
SMALL_CLASS = 10  # images
FLAT = 16  # the values of a nearly constant image differ by less, on the scale 0 … 255


def record(dataset: Dataset) -> dict[str, Any]:
  """Returns the facts of a data set as a JSON tree. They differ if an image, a label or a class differs.

  Each part (PARTS) has the number of images, the images of each class, and the SHA-256 of the labels and of the pixels.
  Of images that stay on the disk it has the SHA-256 of the names and sizes of the files instead of that of the pixels.
  """
  facts: dict[str, Any] = {
    'source': dataset.name,
    'image_shape': list(dataset.image_shape),
    'classes': list(dataset.class_names),
  }
  parts = _parts(dataset)
  facts |= {part: _facts_of_part(arrays, dataset.num_classes) for part, arrays in parts.items()}
  in_memory = [images for images, _ in parts.values() if not isinstance(images, LazyImages)]
  if in_memory:
    facts['pixels'] = [min(int(images.min()) for images in in_memory), max(int(images.max()) for images in in_memory)]
  return facts | {'mean': list(dataset.mean), 'std': list(dataset.std)}


def _parts(dataset: Dataset) -> dict[str, Arrays]:
  arrays = {part: getattr(dataset, part) for part in PARTS}
  return {part: pair for part, pair in arrays.items() if pair}


def _facts_of_part(arrays: Arrays, num_classes) -> dict[str, Any]:
  images, labels = arrays
  return {
    'images': len(labels),
    'of_each_class': np.bincount(labels, minlength=num_classes).tolist(),
    'labels_sha256': _sha256(labels),
    **_identity(images),
  }


def _identity(images) -> dict[str, str]:
  if not isinstance(images, LazyImages):
    return {'pixels_sha256': _sha256(images)}
  is_array = isinstance(images.pictures, ArrayPictures)
  return {'pixels_sha256' if is_array else 'files_sha256': images.fingerprint}


def _sha256(array) -> str:
  return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def announce(
  dataset: Dataset, fraction: float = 1.0, searches: bool = False, alpha_fraction: float = 0.0
) -> dict[str, Any]:
  """Prints what was read, and returns its `record` and 'warnings'; arguments as in `find_warnings`."""
  facts = record(dataset) | {'warnings': find_warnings(dataset, fraction, searches, alpha_fraction)}
  print('\n'.join(describe(facts)), flush=True)
  return facts


# ---- text ----


def describe(facts: Mapping[str, Any]) -> list[str]:
  """Returns the facts of `record` in two lines, and a line for each warning of `announce`."""
  numbers = [f'{facts[part]["images"]:,} {name}' for part, name in PARTS.items() if part in facts]
  size = '×'.join(map(str, facts['image_shape']))
  pixels = 'pixels {} … {}, '.format(*facts['pixels']) if 'pixels' in facts else ''
  statistics = ', '.join(f'{name} {" ".join(f"{x:.3f}" for x in facts[name])}' for name in ('mean', 'std'))
  warnings = [f'warning: {text}' for text in facts.get('warnings', ())]
  return [f'{_listed(numbers)} images of {size}, {pixels}{statistics}', _describe_classes(facts), *warnings]


def _describe_classes(facts) -> str:
  names, counts = facts['classes'], facts['train'].get('of_each_class')
  if not counts:  # a record of an older version
    return f'{len(names):,} classes'
  if min(counts) == max(counts):
    return f'{len(names):,} classes ({names[0]} … {names[-1]}) of {counts[0]:,} training images each'
  smallest, largest = (f'{names[k]} ({counts[k]:,} training images)' for k in (np.argmin(counts), np.argmax(counts)))
  return f'{len(names):,} classes, from {smallest} to {largest}'


def _listed(texts: list[str]) -> str:
  *first, last = texts
  return f'{", ".join(first)} and {last}' if first else last


# ---- warnings ----


def find_warnings(
  dataset: Dataset, fraction: float = 1.0, searches: bool = False, alpha_fraction: float = 0.0
) -> list[str]:
  """Returns a sentence about each thing that is likely to be a mistake in the data.

  Args:
    dataset: the data of a run.
    fraction: fraction of the training images that the run uses.
    searches: whether the run is a search, which needs every class for the weights and for α.
    alpha_fraction: fraction of the training images that train α, as in `Dataset.search_splits`.
  """
  warnings = [*dataset.left_out]
  for part, (images, _) in _parts(dataset).items():
    if isinstance(images, LazyImages):
      continue  # they are not read before the run
    axes = tuple(range(1, images.ndim))
    if num_flat := int(np.sum(images.max(axes) - images.min(axes) < FLAT)):
      warnings.append(f'{num_flat:,} of {len(images):,} {PARTS[part]} images are constant or nearly so')
  names = np.array(dataset.class_names)
  sizes = np.bincount(dataset.train[1], minlength=len(names))
  if (is_small := (sizes > 0) & (sizes < SMALL_CLASS)).any():
    warnings.append(f'fewer than {SMALL_CLASS} training images: {_some(names[is_small], sizes[is_small])}')
  used = {f'the {PARTS[part]} set': labels for part, (_, labels) in _parts(dataset).items()}
  trained = 'the part that trains the weights' if searches else 'the part of the training images that is used'
  if searches:
    used[trained], used['the part that trains α'] = dataset.search_labels(fraction, alpha_fraction)
  elif fraction < 1:
    used[trained] = dataset.subset(fraction).train[1]
  for part, labels in used.items():
    if len(absent := np.setdiff1d(np.arange(len(names)), labels)):
      is_cut = part == trained and fraction < 1 and np.isin(absent, dataset.train[1]).all()
      cause = f' (data.fraction={fraction:g})' if is_cut else ''
      warnings.append(f'{part} has no image of {_some(names[absent])}{cause}')
  if dataset.valid is not None and _is_same(dataset.valid, dataset.test):
    warnings.append('the validation images, which train α, are the test set, too')
  return warnings


def _some(names, counts=None) -> str:
  """Names the first five of some classes, with their counts."""
  shown = [str(name) if counts is None else f'{name} ({counts[k]})' for k, name in enumerate(names[:5])]
  return ', '.join(shown) + (f' and {len(names) - 5} more classes' if len(names) > 5 else '')


def _is_same(first: Arrays, second: Arrays) -> bool:
  if isinstance(first[0], LazyImages) and isinstance(second[0], LazyImages):
    return first[0].fingerprint == second[0].fingerprint
  return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))

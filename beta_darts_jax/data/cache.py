"""Decoded images on the disk: from the second time on, a data set is mapped into memory instead of decoded.

An entry is a folder with two arrays, such as images.npy and labels.npy, and the SHA-256 of both. Entries may be deleted
at any time.
"""

import hashlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable

import numpy as np

Arrays = tuple[np.ndarray, np.ndarray]  # (images uint8 [N, H, W, C], labels int32 [N])

FILES = ('images.npy', 'labels.npy')


def cache_folder() -> pathlib.Path | None:
  """Returns the folder of the entries, beside the compiled programs; None if the user has no folder for a cache."""
  if compiled := os.environ.get('JAX_COMPILATION_CACHE_DIR'):
    return None if '://' in compiled else pathlib.Path(compiled) / 'data'
  base = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
  return None if base.startswith('~') else pathlib.Path(base) / 'beta_darts_jax' / 'data'


def cached(name: str, key: str, read: Callable[[], Arrays], files: tuple[str, str] = FILES) -> Arrays:
  """Returns what `read` returns, from the cache if it has an intact entry; otherwise reads and makes an entry.

  If the cache cannot be written, a line on the console says so, and the arrays are returned all the same.

  Args:
    name: name of the data, the beginning of the entry's name.
    key: a text that differs for different data.
    read: returns the arrays.
    files: names of the files of both arrays.

  Returns:
    The arrays. From the cache they are mapped from files and cannot be changed.
  """
  folder = cache_folder()
  if folder is None:
    return read()
  entry = folder / f'{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}'
  arrays = _load(entry, files)
  if arrays is None:
    arrays = read()
    try:
      _save(entry, arrays, files)
    except OSError as error:
      print(f'{folder}: cannot keep {name} there ({error.strerror or error})', flush=True)
  return arrays


def _load(entry, files) -> Arrays | None:
  """Returns the arrays of an entry, None if it is missing or damaged."""
  try:
    images, labels = (np.load(entry / file, mmap_mode='r', allow_pickle=False) for file in files)
    is_intact = (entry / 'sha256').read_text() == _sha256((images, labels))
  except (OSError, ValueError, EOFError):  # ValueError, EOFError: a damaged header
    return None
  return (images, labels) if is_intact else None


def _save(entry, arrays: Arrays, files) -> None:
  """Writes an entry as a whole: other processes find no entry, or a complete one."""
  entry.parent.mkdir(parents=True, exist_ok=True)
  temporary = pathlib.Path(tempfile.mkdtemp(prefix='.', dir=entry.parent))
  try:
    for file, array in zip(files, arrays, strict=True):
      np.save(temporary / file, array, allow_pickle=False)
    (temporary / 'sha256').write_text(_sha256(arrays))
    if _load(entry, files) is None:  # no other process has written it since
      shutil.rmtree(entry, ignore_errors=True)
      temporary.rename(entry)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def _sha256(arrays: Arrays) -> str:
  digest = hashlib.sha256()
  for array in arrays:
    digest.update(np.ascontiguousarray(array).data)
  return digest.hexdigest()

"""The cache returns what was read, reads again what is damaged or changed, and is never necessary."""

import os
import pathlib

import numpy as np
import pytest

from beta_darts_jax.data.cache import FILES, _save, cache_folder, cached

IMAGES, LABELS = np.arange(48, dtype=np.uint8).reshape(4, 2, 2, 3), np.arange(4, dtype=np.int32)


class Reader:
  """Counts how often it reads."""

  def __init__(self):
    self.count = 0

  def __call__(self):
    self.count += 1
    return IMAGES, LABELS


@pytest.fixture
def folder(tmp_path, monkeypatch):
  monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR', raising=False)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  return tmp_path / 'beta_darts_jax' / 'data'


def check(read, key='key'):
  images, labels = cached('x', key, read)
  np.testing.assert_array_equal(images, IMAGES)
  np.testing.assert_array_equal(labels, LABELS)
  assert images.dtype == np.uint8 and labels.dtype == np.int32
  return images


def test_the_second_time_the_arrays_are_mapped(folder):
  read = Reader()
  check(read)
  assert isinstance(check(read), np.memmap) and read.count == 1
  check(read, key='of other files')
  assert read.count == 2 and len(list(folder.iterdir())) == 2


def cut(file):
  file.write_bytes(file.read_bytes()[:-1])


def flip_a_bit(file):
  content = file.read_bytes()
  file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def empty(file):
  file.write_bytes(b'')


@pytest.mark.parametrize('damage', [cut, flip_a_bit, empty, pathlib.Path.unlink])
@pytest.mark.parametrize('name', ['images.npy', 'labels.npy', 'sha256'])
def test_a_damaged_entry_is_read_again(folder, damage, name):
  read = Reader()
  check(read)
  damage(next(folder.glob(f'*/{name}')))
  check(read)
  check(read)
  assert read.count == 2


def test_an_entry_that_another_process_wrote_meanwhile_stays(folder):
  check(Reader())
  (entry,) = folder.iterdir()
  before = entry.stat().st_ino
  _save(entry, (IMAGES, LABELS), FILES)
  assert entry.stat().st_ino == before and len(list(folder.iterdir())) == 1


def test_an_error_without_a_number_is_named_by_its_text(folder, monkeypatch, capsys):
  def save(*_, **__):
    raise OSError('20 requested and 10 written')  # of np.save on a full disk

  monkeypatch.setattr(np, 'save', save)
  check(Reader())
  assert 'cannot keep x there (20 requested and 10 written)' in capsys.readouterr().out


def test_a_cache_that_cannot_be_written_is_named_and_does_no_harm(folder, capsys):
  folder.parent.mkdir()
  folder.write_text('a file in its place')
  check(Reader())
  assert f'{folder}: cannot keep x there' in capsys.readouterr().out


@pytest.mark.parametrize(
  'variables, expected',
  [
    ({'JAX_COMPILATION_CACHE_DIR': '/a', 'XDG_CACHE_HOME': '/b'}, '/a/data'),
    ({'XDG_CACHE_HOME': '/b'}, '/b/beta_darts_jax/data'),
    ({'HOME': '/h'}, '/h/.cache/beta_darts_jax/data'),
    ({'JAX_COMPILATION_CACHE_DIR': 'gs://bucket'}, None),
  ],
)
def test_the_place_of_the_cache(monkeypatch, variables, expected):
  for name in ('JAX_COMPILATION_CACHE_DIR', 'XDG_CACHE_HOME'):
    monkeypatch.delenv(name, raising=False)
  for name, value in variables.items():
    monkeypatch.setenv(name, value)
  found = cache_folder()
  assert (found and str(found)) == expected


def test_without_a_home_folder_there_is_no_cache(monkeypatch):
  for name in ('JAX_COMPILATION_CACHE_DIR', 'XDG_CACHE_HOME', 'HOME'):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setattr(os.path, 'expanduser', lambda path: path)
  assert cache_folder() is None
  check(Reader())

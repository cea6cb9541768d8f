import contextlib
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beta_darts_jax import InputError
from beta_darts_jax.runtime.checkpoint import Checkpoints


def state(value):
  return {'w': jnp.full((300, 7), value, jnp.float32), 'seed': jnp.uint32(value), 'step': jnp.int32(value)}


def metrics(step):
  return ''.join(f'{{"epoch": {epoch}, "genotype": "|none~0|"}}\n' for epoch in range(step))


def saved(tmp_path, *steps):
  checkpoints = Checkpoints(tmp_path)
  for step in steps:
    checkpoints.save(step, state(step), metrics(step))
  checkpoints.close()


def restored(tmp_path, like=None):
  checkpoints = Checkpoints(tmp_path)
  result = checkpoints.restore(like or state(0))
  checkpoints.close()
  return result


def is_step(found, step):
  jax.tree.map(np.testing.assert_array_equal, found[0], state(step))
  return found[1] == metrics(step)


def test_the_newest_comes_back_bit_for_bit(tmp_path):
  assert restored(tmp_path) is None
  saved(tmp_path, 1, 2, 3)
  assert is_step(restored(tmp_path), 3)
  assert sorted(f.name for f in (tmp_path / 'checkpoints').iterdir()) == ['2', '3']
  assert sorted(f.name for f in (tmp_path / 'seals').iterdir()) == ['2.json', '3.json']


def test_a_full_disk_is_noticed_before_anything_is_written(tmp_path, monkeypatch):
  saved(tmp_path, 1)
  for free, text in ((2**20, ''), (2**21, 'x' * 2**20)):  # no room for the state; for metrics.jsonl
    monkeypatch.setattr('shutil.disk_usage', lambda folder, free=free: types.SimpleNamespace(free=free))
    with contextlib.closing(Checkpoints(tmp_path)) as checkpoints, pytest.raises(OSError, match='No space left'):
      checkpoints.save(2, state(2), text)
  assert [f.name for f in (tmp_path / 'checkpoints').iterdir()] == ['1']
  assert is_step(restored(tmp_path), 1)


def damage_nothing_else(path, how):
  content = bytearray(path.read_bytes())
  if how == 'flip':
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
  elif how == 'truncate':
    path.write_bytes(content[:-1])
  else:
    path.unlink()


@pytest.mark.parametrize('how', ['flip', 'truncate', 'remove'])
def test_a_damaged_newest_gives_way_to_the_one_before(tmp_path, how, caplog):
  saved(tmp_path, 1, 2)
  files = sorted(f for f in (tmp_path / 'checkpoints' / '2').rglob('*') if f.is_file() and f.stat().st_size)
  damage_nothing_else(max(files, key=lambda f: f.stat().st_size), how)
  assert is_step(restored(tmp_path), 1)
  assert 'checkpoint 2 is damaged and not used' in caplog.text
  saved(tmp_path, 2)  # the number is free again
  assert is_step(restored(tmp_path), 2)


def test_a_step_is_sealed_as_soon_as_it_is_saved(tmp_path):
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(1, state(1))
  while not (tmp_path / 'seals' / '1.json').exists():
    checkpoints.seal()  # returns at once while the save is under way
    time.sleep(0.01)
  checkpoints.close()


def test_an_unsealed_step_is_tried(tmp_path):
  saved(tmp_path, 1, 2)
  (tmp_path / 'seals' / '2.json').unlink()
  assert is_step(restored(tmp_path), 2)


def test_another_layout_is_an_error_and_loses_nothing(tmp_path):
  saved(tmp_path, 1)
  with pytest.raises(InputError, match='is of another config or version'):
    restored(tmp_path, {'other': jnp.zeros(3)})
  assert is_step(restored(tmp_path), 1)


def test_checkpoints_of_an_older_version_are_left_alone(tmp_path):
  (older := tmp_path / 'checkpoints' / '1' / 'default').mkdir(parents=True)
  with pytest.raises(InputError, match='is of an older version of this program'):
    Checkpoints(tmp_path)
  assert older.is_dir() and [f.name for f in tmp_path.iterdir()] == ['checkpoints']


def test_a_disk_that_cannot_be_read_loses_nothing(tmp_path, monkeypatch):
  saved(tmp_path, 1, 2)
  with monkeypatch.context() as patch, pytest.raises(OSError, match='Input/output error'):
    patch.setattr('pathlib.Path.read_bytes', lambda path: (_ for _ in ()).throw(OSError(5, 'Input/output error')))
    Checkpoints(tmp_path)
  assert is_step(restored(tmp_path), 2)

import shutil
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beta_darts_jax import InputError
from beta_darts_jax.runtime.checkpoint import Checkpoints, checksums, load_arrays


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


def test_restore_returns_the_newest_state_bit_for_bit(tmp_path):
  assert restored(tmp_path) is None
  saved(tmp_path, 1, 2, 3)
  assert is_step(restored(tmp_path), 3)
  assert sorted(f.name for f in (tmp_path / 'checkpoints').iterdir()) == ['2', '3']
  assert sorted(f.name for f in (tmp_path / 'seals').iterdir()) == ['2.json', '3.json']


def damage(path, how):
  content = bytearray(path.read_bytes())
  if how == 'flip':
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
  elif how == 'truncate':
    path.write_bytes(content[:-1])
  else:
    path.unlink()


@pytest.mark.parametrize('how', ['flip', 'truncate', 'remove'])
def test_a_damaged_checkpoint_is_replaced_by_the_one_before(tmp_path, how, capsys):
  saved(tmp_path, 1, 2)
  files = sorted(f for f in (tmp_path / 'checkpoints' / '2').rglob('*') if f.is_file() and f.stat().st_size)
  damage(max(files, key=lambda f: f.stat().st_size), how)
  assert is_step(restored(tmp_path), 1)
  assert 'checkpoint 2 is damaged and not used' in capsys.readouterr().err
  saved(tmp_path, 2)  # step 2 can be saved again
  assert is_step(restored(tmp_path), 2)


@pytest.mark.parametrize(
  'how, problem',
  [('flip', 'is damaged'), ('remove', 'is damaged'), ('remove all', 'the last checkpoint, is missing')],
)
def test_a_damaged_checkpoint_is_not_loaded_and_loading_changes_no_file(tmp_path, how, problem):
  saved(tmp_path, 1, 2)
  np.testing.assert_array_equal(load_arrays(tmp_path)['w'], state(2)['w'])
  files = sorted(f for f in (tmp_path / 'checkpoints' / '2').rglob('*') if f.is_file() and f.stat().st_size)
  if how == 'remove all':
    shutil.rmtree(tmp_path / 'checkpoints' / '2')
  else:
    damage(max(files, key=lambda f: f.stat().st_size), how)
  before = checksums(tmp_path)
  for _ in range(2):
    with pytest.raises(InputError, match=f'checkpoints/2.* {problem}: without result.json'):
      load_arrays(tmp_path)
  assert checksums(tmp_path) == before


def test_a_damaged_checkpoint_without_checksums_is_not_loaded(tmp_path):
  saved(tmp_path, 1)
  shutil.rmtree(tmp_path / 'seals')
  np.testing.assert_array_equal(load_arrays(tmp_path)['w'], state(1)['w'])
  shutil.rmtree(tmp_path / 'checkpoints' / '1' / 'state')
  with pytest.raises(InputError, match=r'checkpoints/1 cannot be read \(.*\): without result.json'):
    load_arrays(tmp_path)


def test_a_folder_without_a_checkpoint_is_not_loaded(tmp_path):
  with pytest.raises(InputError, match='has no checkpoint'):
    load_arrays(tmp_path)
  assert not any(tmp_path.iterdir())


def test_checksums_are_recorded_as_soon_as_a_step_is_saved(tmp_path):
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(1, state(1))
  while not (tmp_path / 'seals' / '1.json').exists():
    checkpoints.record_checksums()  # does not wait for the save
    time.sleep(0.01)
  checkpoints.close()


def test_a_step_without_checksums_is_restored(tmp_path):
  saved(tmp_path, 1, 2)
  (tmp_path / 'seals' / '2.json').unlink()
  assert is_step(restored(tmp_path), 2)


@pytest.mark.parametrize('other', [{'other': jnp.zeros(3)}, state(0) | {'w': jnp.zeros((300, 8))}])
def test_a_state_of_another_layout_is_refused_and_nothing_is_lost(tmp_path, other):
  saved(tmp_path, 1)
  with pytest.raises(InputError, match='was written with another config or version'):
    restored(tmp_path, other)
  assert is_step(restored(tmp_path), 1)


def test_an_unreadable_disk_loses_nothing(tmp_path, monkeypatch):
  saved(tmp_path, 1, 2)
  with monkeypatch.context() as patch, pytest.raises(OSError, match='Input/output error'):
    patch.setattr('pathlib.Path.read_bytes', lambda path: (_ for _ in ()).throw(OSError(5, 'Input/output error')))
    Checkpoints(tmp_path)
  assert is_step(restored(tmp_path), 2)

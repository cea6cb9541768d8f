import fcntl
import json
import threading

import pytest

from beta_darts_jax import InputError
from beta_darts_jax.errors import NonFiniteLoss
from beta_darts_jax.runtime.workdir import Workdir, differences, read_result

CONFIG = {'a': 1, 'b': {'c': (1, 2)}}


def test_same_config_opens_again_and_another_is_refused(tmp_path):
  with Workdir(tmp_path / 'run', CONFIG):
    assert read_result(tmp_path / 'run') is None
  with Workdir(tmp_path / 'run', CONFIG) as run:
    run.finish({'genotype': 'x'})
  assert read_result(tmp_path / 'run') == {'genotype': 'x'}
  with pytest.raises(InputError, match=r'b\.c is \[1, 2\] there, \[1, 3\] here'):
    Workdir(tmp_path / 'run', {'a': 1, 'b': {'c': (1, 3)}})
  assert json.loads((tmp_path / 'run' / 'config.json').read_text()) == {'a': 1, 'b': {'c': [1, 2]}}


def test_one_process_at_a_time(tmp_path):
  with Workdir(tmp_path, CONFIG), pytest.raises(InputError, match='in use'):
    Workdir(tmp_path, CONFIG)
  with Workdir(tmp_path, CONFIG):
    pass


def test_who_only_looks_whether_it_is_in_use_is_waited_for(tmp_path):
  with open(tmp_path / 'lock', 'w') as lock:
    fcntl.flock(lock, fcntl.LOCK_SH)  # as `in_use` takes it
    release = threading.Timer(0.05, fcntl.flock, (lock, fcntl.LOCK_UN))
    release.start()
    with Workdir(tmp_path, CONFIG):
      release.join()


def test_what_differs_in_long_values_is_shown(tmp_path):
  with Workdir(tmp_path, {'genotype': 'x' * 90 + 'abc' + 'y' * 90}):
    pass
  with pytest.raises(InputError, match=r'genotype is …x{10}abcy{27}… there, …x{10}bcdy{27}… here'):
    Workdir(tmp_path, {'genotype': 'x' * 90 + 'bcd' + 'y' * 90})


def test_a_divergence_is_noted_until_the_run_goes_on(tmp_path):
  with pytest.raises(NonFiniteLoss), Workdir(tmp_path, CONFIG):
    raise NonFiniteLoss('the loss is nan')
  assert (tmp_path / 'diverged.txt').read_text() == 'the loss is nan\n'
  with Workdir(tmp_path, CONFIG):
    pass
  assert not (tmp_path / 'diverged.txt').exists()


def test_unwritable_and_damaged_folders_are_named(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(InputError, match='cannot write'):
    Workdir(tmp_path / 'file' / 'run', CONFIG)
  (tmp_path / 'config.json').write_text('{')
  with pytest.raises(InputError, match='damaged'):
    Workdir(tmp_path, CONFIG)


@pytest.mark.parametrize(
  'make, message',
  [
    (lambda run: (run / 'config.json').write_text('[1]'), r'config\.json is damaged'),
    (lambda run: (run / 'config.json').write_text('{"sfed": 0}'), r'if config\.json is damaged, remove it'),
    (lambda run: (run / 'config.json').mkdir(), r'config\.json is no file'),
    (lambda run: (run / 'metrics.jsonl').mkdir(), r'metrics\.jsonl is no file'),
    (lambda run: (run / 'checkpoints').write_text(''), 'checkpoints is no folder'),
  ],
)
def test_what_is_not_of_a_run_is_named(tmp_path, make, message):
  make(tmp_path)
  before = sorted(tmp_path.iterdir())
  with pytest.raises(InputError, match=message):
    Workdir(tmp_path, CONFIG)
  assert sorted(tmp_path.iterdir()) == before


def test_differences_name_the_leaves():
  assert differences({'a': 1, 'b': {'c': 2}}, {'a': 1, 'b': {'c': 3, 'd': 4}}) == ['b.c', 'b.d']


def test_another_environment_is_named(tmp_path):
  with Workdir(tmp_path, CONFIG) as run:
    assert run.changes({'cores': 2, 'versions': {'jax': '1'}}) == []
    assert run.changes({'cores': 2, 'versions': {'jax': '1'}}) == []
    assert run.changes({'cores': 1, 'versions': {'jax': '2'}}) == ['cores: 2 → 1', 'versions.jax: 1 → 2']


def test_a_damaged_environment_is_named(tmp_path):
  with Workdir(tmp_path / 'run', CONFIG) as run:
    (tmp_path / 'run' / 'environment.json').write_text('{"a')
    with pytest.raises(InputError, match=r'environment\.json is damaged: remove it to go on'):
      run.changes({'device': 'cpu'})

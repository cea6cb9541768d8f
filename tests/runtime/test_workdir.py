import datetime
import errno
import fcntl
import json
import os
import re
import threading

import pytest

from beta_darts_jax import InputError, __version__
from beta_darts_jax.errors import NonFiniteLoss
from beta_darts_jax.runtime.files import write_text
from beta_darts_jax.runtime.workdir import Workdir, in_use, local_folder, read_result, refuse_other_config

CONFIG = {'a': 1, 'b': {'c': (1, 2)}, 'data': {'workers': 1}, 'parallel': {'data': 1}}


def test_the_same_config_opens_the_folder_again(tmp_path):
  with Workdir(tmp_path / 'run', CONFIG):
    assert read_result(tmp_path / 'run') is None
  with Workdir(tmp_path / 'run', CONFIG | {'data': {'workers': 2}, 'parallel': {'data': 2}}) as run:
    run.finish({'genotype': 'x'})
  assert read_result(tmp_path / 'run') == {'genotype': 'x'}


def test_a_key_that_an_older_version_did_not_have_may_have_its_default(tmp_path):
  with Workdir(tmp_path, CONFIG):
    pass
  new, defaults = CONFIG | {'new': {'x': (1, 2), 'y': 0.5}}, {'a': 7, 'new': {'x': (1, 2), 'y': 0.5}}
  refuse_other_config(tmp_path, new, defaults)
  with Workdir(tmp_path, new, defaults=defaults):
    pass
  with pytest.raises(InputError, match=r'settings \(new\.y: null, yours: 2\)'):
    refuse_other_config(tmp_path, CONFIG | {'new': {'x': (1, 2), 'y': 2}}, defaults)
  with pytest.raises(InputError, match=r'settings \(a: 1, yours: 7\)'):  # the old run has a value of its own
    refuse_other_config(tmp_path, CONFIG | {'a': 7}, defaults)


def test_another_config_is_refused(tmp_path):
  with Workdir(tmp_path, CONFIG):
    pass
  with pytest.raises(InputError, match=r'different settings \(b\.c: \[1, 2\], yours: \[1, 3\]\)'):
    Workdir(tmp_path, CONFIG | {'b': {'c': (1, 3)}})
  with pytest.raises(InputError, match=r'\(a: 1, yours: 2; b\.c: \[1, 2\], yours: null; d: null, yours: 3\)'):
    refuse_other_config(tmp_path, {'a': 2, 'b': {}, 'd': 3})
  assert json.loads((tmp_path / 'config.json').read_text()) == json.loads(json.dumps(CONFIG))


def test_one_process_at_a_time(tmp_path):
  with Workdir(tmp_path, CONFIG):
    assert in_use(tmp_path)
    with pytest.raises(InputError, match='in use by another process'):
      Workdir(tmp_path, CONFIG)
  assert not in_use(tmp_path)
  with Workdir(tmp_path, CONFIG):
    pass


def test_opening_waits_for_in_use_of_another_process(tmp_path):
  with open(tmp_path / 'lock', 'w') as lock:
    fcntl.flock(lock, fcntl.LOCK_SH)  # as `in_use` takes it
    release = threading.Timer(0.05, fcntl.flock, (lock, fcntl.LOCK_UN))
    release.start()
    with Workdir(tmp_path, CONFIG):
      release.join()


def test_a_run_goes_on_without_locks_after_a_warning(tmp_path, monkeypatch, capsys):
  def flock(*_):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

  monkeypatch.setattr(fcntl, 'flock', flock)
  with Workdir(tmp_path, CONFIG):
    assert (tmp_path / 'config.json').is_file()
  assert 'has no locks (No locks available)' in capsys.readouterr().err


def test_a_divergence_is_recorded_until_the_run_resumes(tmp_path):
  with pytest.raises(NonFiniteLoss), Workdir(tmp_path, CONFIG):
    raise NonFiniteLoss('the loss is nan')
  assert (tmp_path / 'diverged.txt').read_text() == 'the loss is nan\n'
  with Workdir(tmp_path, CONFIG):
    pass
  assert not (tmp_path / 'diverged.txt').exists()


def test_an_unwritable_folder_is_named(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(InputError, match='cannot write'):
    Workdir(tmp_path / 'file' / 'run', CONFIG)
  with pytest.raises(InputError, match=r'cannot read .*: File name too long; choose another workdir'):
    local_folder(tmp_path / ('x' * 256))


@pytest.mark.parametrize('address', ['gs://bucket/run', 'file:/run'])
def test_an_address_is_not_a_folder(address):
  with pytest.raises(InputError, match=f'{address}: expected a folder'):
    local_folder(address)


@pytest.mark.parametrize('text', ['{', '[1]', '\0'])
@pytest.mark.parametrize(
  'name, read',
  [
    ('config.json', lambda run: refuse_other_config(run.path, CONFIG)),
    ('environment.json', lambda run: run.record_environment({'device': 'cpu'})),
    ('trained_cells.json', lambda run: run.trained_cells()),
    ('result.json', lambda run: read_result(run.path)),
  ],
)
def test_a_damaged_file_is_named(tmp_path, name, read, text):
  with Workdir(tmp_path, CONFIG) as run:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=rf'{name} is damaged: remove it'):
      read(run)


def test_changes_of_the_environment_are_named(tmp_path):
  with Workdir(tmp_path, CONFIG, command='python run.py') as run:
    assert run.record_environment({'cores': 2, 'versions': {'jax': '1'}}) == []
    assert run.record_environment({'cores': 2, 'versions': {'jax': '1'}}) == []
    assert run.record_environment({'cores': 1, 'versions': {'jax': '2'}}) == ['cores: 2 → 1', 'versions.jax: 1 → 2']
    newer = {'cores': 2, 'versions': {'jax': '1', 'optax': '1'}, 'processor': 'x'}  # has values of a later version
    assert run.record_environment(newer) == []
  kept = json.loads((tmp_path / 'environment.json').read_text())
  assert kept['command'] == 'python run.py' and kept['version'] == __version__
  assert datetime.datetime.fromisoformat(kept['started']).tzinfo
  assert re.fullmatch('[0-9a-f]{12,}(-dirty)?', kept.get('commit', '0' * 12))  # there is none without git


def test_trained_cells_are_kept(tmp_path):
  with Workdir(tmp_path, CONFIG) as run:
    assert run.trained_cells() == {}
    run.keep_trained_cells({'0 |none~0|': {'test_accuracy': 0.5}})
    assert run.trained_cells() == {'0 |none~0|': {'test_accuracy': 0.5}}


def test_a_text_that_utf_8_cannot_hold_is_written_with_an_escape(tmp_path):
  write_text(tmp_path / 'page.html', 'gr\udcf6n')
  assert (tmp_path / 'page.html').read_text() == r'gr\udcf6n'

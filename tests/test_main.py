"""The command: one line and status 2 for a mistake, Python's traceback for the user's own code, and signals."""

import importlib.metadata
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import types

import pytest

from beta_darts_jax import InputError, run_search
from beta_darts_jax.config import default, default_retrain

ROOT = pathlib.Path(__file__).parent.parent
DIGITS = '--config=configs/digits.py'
MISTAKES = {  # kind: (arguments, what the message names)
  'missing config': ([], '--config=FILE'),
  'unknown file': (['--config=configs/none.py'], '--config=configs/none.py: no such file'),
  'unknown key': ([DIGITS, '--config.search.epoch=3'], 'Did you mean config.search.epochs'),
  'type': ([DIGITS, '--config.search.epochs=three'], 'search.epochs'),
  'range': ([DIGITS, '--config.search.epochs=0'], 'config.search.epochs=0: expected'),
  'choice': ([DIGITS, '--config.supernet.dtype=float8'], 'float32, bfloat16'),
  'unexpected argument': ([DIGITS, 'surplus'], 'surplus'),
  'no run to report': (['--report=none'], 'none'),
  'no run to export': (['--export=none', '--out=none/out'], 'none: no such folder'),
  'no folder to export to': (['--export=none', '--format=onnx'], 'expected with --out=FOLDER'),
  'unwritable workdir': ([DIGITS, '--workdir=README.md/run'], 'README.md/run'),
  'bucket': ([DIGITS, '--workdir=gs://bucket/run'], 'gs://bucket/run: expected a folder; mount the bucket'),
  'too large batch': ([DIGITS, '--config.search.batch_size=720'], 'config.search.batch_size=720: expected at most 719'),
}


@pytest.fixture(scope='module')
def run_command():
  """A function that runs the command in a process that is forked after the imports, in a third of a second."""
  context = multiprocessing.get_context('forkserver')
  context.set_forkserver_preload(['beta_darts_jax.main', 'sklearn.datasets'])

  def run(folder, *arguments, **environment):
    process = context.Process(target=call_cli, args=(folder, arguments, environment))
    process.start()
    process.join()
    outputs = {name: (folder / name).read_text() for name in ('stdout', 'stderr')}
    return types.SimpleNamespace(returncode=process.exitcode, **outputs)

  return run


def call_cli(folder, arguments, environment):
  os.chdir(ROOT)
  os.environ |= environment
  sys.argv = ['beta_darts_jax.main', *map(str, arguments)]
  import jax

  from beta_darts_jax import main

  if 'JAX_PLATFORMS' in environment:  # JAX has read its variables before
    jax.config.update('jax_platforms', environment['JAX_PLATFORMS'])

  for number, name in ((1, 'stdout'), (2, 'stderr')):
    os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT), number)
  main.cli()


@pytest.mark.parametrize('kind', MISTAKES)
def test_cli_explains_a_mistake_in_one_line_and_writes_nothing(kind, run_command, tmp_path):
  arguments, named = MISTAKES[kind]
  if not any(argument.startswith(('--workdir', '--report', '--export')) for argument in arguments):
    arguments = [*arguments, f'--workdir={tmp_path}/run']
  done = run_command(tmp_path, *arguments)
  assert done.returncode == 2, done.stderr
  assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1 and named in done.stderr, done.stderr
  assert sorted(file.name for file in tmp_path.iterdir()) == ['stderr', 'stdout']


OPEN_MPI = 'OMPI_MCA_orte_hnp_uri'


@pytest.mark.parametrize(
  'environment, named',
  [
    ({'JAX_PLATFORMS': 'cuda'}, 'JAX_PLATFORMS=cuda: JAX finds no such device'),
    ({'JAX_NUM_CPU_DEVICES': '0'}, 'JAX_NUM_CPU_DEVICES=0: expected 1 or more'),
    ({OPEN_MPI: '1.0;tcp://10.0.0.1:1'}, "(KeyError: 'OMPI_COMM_WORLD_SIZE'); cluster=none joins no cluster"),
  ],
)
def test_cli_explains_an_environment_in_which_it_cannot_run(environment, named, run_command, tmp_path):
  done = run_command(tmp_path, DIGITS, f'--workdir={tmp_path}/run', **environment)
  assert done.returncode == 2, done.stderr
  assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1 and named in done.stderr, done.stderr


def test_cli_says_first_where_it_computes(run_command, tmp_path):
  done = run_command(tmp_path, DIGITS, f'--workdir={tmp_path}/run', '--config.search.batch_size=720')
  version = importlib.metadata.version('beta-darts-jax')
  first = done.stdout.splitlines()[0]
  assert first == f'beta_darts_jax {version} on cpu (1 process × 1 device), folder {tmp_path}/run'


def test_cli_keeps_the_traceback_of_the_users_config_file(run_command, tmp_path):
  (tmp_path / 'own.py').write_text('def get_config(name):\n  return {}[name]\n')
  done = run_command(tmp_path, f'--config={tmp_path}/own.py:foo')
  assert done.returncode == 1
  assert 'Traceback' in done.stderr and 'own.py", line 2' in done.stderr and "KeyError: 'foo'" in done.stderr


def test_cli_help_shows_every_key():
  done = subprocess.run(
    [sys.executable, '-m', 'beta_darts_jax.main', '--help'], cwd=ROOT, capture_output=True, text=True
  )
  assert done.returncode == 0 and not done.stderr
  assert '--config configs/digits.py' in done.stdout and 'parallel.strategy' in done.stdout
  assert 'train.drop_path_rate' in done.stdout


def test_cli_leaves_signals_outside_the_training_loop_to_the_system():
  """SIGINT while the config file is read ends the process at once, without a traceback."""
  config_file = 'import os, signal; os.kill(os.getpid(), signal.SIGINT)'
  # SIGINT may be ignored where the tests run in the background
  heed = 'import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.executable, sys.argv[1:])'
  command = [sys.executable, '-c', heed, sys.executable, '-m', 'beta_darts_jax.main', '--config=/dev/stdin']
  done = subprocess.run(command, input=config_file, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == -signal.SIGINT and not done.stderr


@pytest.mark.parametrize('key, value', [('search.momentum', -5.0), ('task', 'retrain')])
def test_run_search_checks_the_config(tmp_path, key, value):
  config = default() if key != 'task' else default_retrain()
  if key != 'task':
    config.update_from_flattened_dict({key: value})
  with pytest.raises(InputError, match=f'config.{key}='):
    run_search(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()

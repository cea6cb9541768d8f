"""Whatever a user gets wrong: one line that teaches, exit status 2, nothing written."""

import contextlib
import errno
import functools
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time
import types

import pytest

from beta_darts_jax.main import SHOW_CURSOR, told

ROOT = pathlib.Path(__file__).parent.parent
DIGITS = '--config=configs/digits.py'
RETRAIN = '--config=configs/retrain_cifar10.py'
SMALL = ('--config.genotype=DARTS_V2', '--config.network.auxiliary_weight=0.0')
ARCH = '|none~0|+|none~0|none~1|+|none~0|none~1|none~2|'


def start(*arguments):
  command = [sys.executable, '-m', 'beta_darts_jax.main', *map(str, arguments)]
  return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope='module')
def fork():
  """A function like `start`, and thirty times faster: processes that have imported everything, forked from one."""
  context = multiprocessing.get_context('forkserver')
  context.set_forkserver_preload(
    [f'beta_darts_jax.{name}' for name in ('main', 'search', 'streaming')] + ['sklearn.datasets']
  )

  def start(folder, *arguments, **environment):
    process = context.Process(target=_as_a_command, args=(folder, arguments, environment))
    process.start()
    process.join()
    outputs = {name: (folder / name).read_text() for name in ('stdout', 'stderr')}
    return types.SimpleNamespace(returncode=process.exitcode, **outputs)

  return start


def _as_a_command(folder, arguments, environment):
  os.chdir(ROOT)
  os.environ.update(environment)
  sys.argv = ['beta_darts_jax.main', *map(str, arguments)]
  from beta_darts_jax import main

  for number, name in ((1, 'stdout'), (2, 'stderr')):
    os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT), number)
  main.cli()


@pytest.mark.parametrize(
  'arguments, message',
  [
    ([], '--config=FILE'),
    (['--config=configs/none.py'], '--config=configs/none.py: no such file; in configs/ are again.py, darts.py'),
    (['--config=configs'], '--config=configs: a folder, allowed is a file'),
    (['--config=configs/again.py'], 'allowed is --config=configs/again.py:ARGUMENT'),
    (['--config.search.seed=3'], '--config.search.seed: allowed with --config=FILE'),
    ([DIGITS, '--workdir='], "--workdir='': allowed is a folder"),
    ([DIGITS, '--workdir=README.md'], "--workdir='README.md': allowed is a folder"),
    ([DIGITS, '--workdir'], '--workdir without a value: allowed is a folder'),
    ([DIGITS, '--config.search.epochs'], 'config.search.epochs: allowed is an integer'),
    (['--report=runs', '--png=3'], '--png=3: allowed is --png'),
    ([DIGITS, '--config.benchmark.table=tests'], f'{ROOT / "tests"}: a folder, which config.benchmark.table'),
    ([DIGITS, '--report=runs'], '--config and --workdir only without it'),
    ([DIGITS, '--search.epochs=3'], 'unknown --search.epochs: did you mean --config.search.epochs? allowed are'),
    (['--report=runs', '--out='], "--out='': allowed is a file"),
    ([DIGITS, '--config.data.source=folder:/no\nwhere'], 'folder:/no where: no such folder'),
    ([DIGITS, '--config.space.operations=("none",)'], "the only operation 'none' leaves nothing to choose"),
    ([DIGITS, 'surplus'], 'unexpected arguments: surplus'),
    ([DIGITS, '--epochs=3'], 'unknown --epochs: allowed are --config, --config.KEY, --workdir, --report'),
    ([f'{DIGITS}:fast'], 'allowed is --config=configs/digits.py, which takes no arguments'),
    (
      [DIGITS, '--config.search.epoch=3'],
      'error: unknown config.search.epoch: did you mean config.search.epochs or config.derivation.epoch? allowed',
    ),
    ([DIGITS, '--config.search.epochs=three'], 'config.search.epochs=three: allowed is an integer'),
    ([DIGITS, '--config.search.epochs=0'], 'config.search.epochs=0: allowed is a number > 0'),
    ([DIGITS, '--config.search.learning_rate=nan'], 'config.search.learning_rate=nan'),
    ([DIGITS, '--config.search.alpha_betas=(0.5, "x")'], 'a tuple of 2: (a number, a number)'),
    ([DIGITS, '--config.search.alpha_betas=(0.5, 1.5)'], 'two numbers in [0, 1)'),
    ([DIGITS, '--config.supernet.dtype=float8'], 'allowed are float32, bfloat16'),
    (['--config=configs/nas_bench_201.py:mnist'], 'cifar10, cifar100, imagenet16_120, svhn'),
    ([DIGITS, '--config.data.source=nonsense_data'], 'unknown data set'),
    ([DIGITS, '--config.data.source=folder:'], 'needs a path: folder:PATH'),
    ([DIGITS, '--config.data.source=folder:none'], f'folder:{ROOT / "none"}: no such folder'),
    ([DIGITS, '--config.search.batch_size=720'], 'allowed is up to 719'),
    ([DIGITS, '--config.retrain.batch_size=2000'], 'allowed is up to 1438, the training images'),
    ([DIGITS, '--config.parallel.data=3'], 'data=3, population=0: expected divisors of the batch size, 32'),
    ([DIGITS, '--config.population.beta_decay_weight=(5, "a")'], 'allowed is a tuple of numbers ≥ 0'),
    ([DIGITS, '--config.population.seeds=2'], 'config.retrain.epochs=6: allowed is 0 with a population'),
    ([DIGITS, '--config.population.learning_rate=(1, 2, 1.0)'], 'allowed are values that differ'),
    ([DIGITS, '--config.parallel.coordinator=localhost:1'], 'process=0: expected less than the number of processes, 0'),
    ([DIGITS, '--config.parallel.coordinator=localhost'], "coordinator='localhost': expected HOST:PORT"),
    ([DIGITS, '--config.parallel.coordinator=localhost:x'], "coordinator='localhost:x': expected HOST:PORT"),
    ([DIGITS, '--config.parallel.processes=2'], 'processes=2, process=0: expected a coordinator, HOST:PORT, too'),
    ([DIGITS, '--config.data.image_size=6'], '6×6 pixels, allowed are multiples of 4'),
    ([DIGITS, '--config.data.crop_padding=8'], 'crop_padding=8: expected less than the image size, 8'),
    ([DIGITS, '--config.name=../up'], "config.name='../up': allowed are letters, digits, _, - and ."),
    ([DIGITS, '--config.profile=5:441'], "config.profile='5:441': allowed are steps up to 440"),
    ([RETRAIN, *SMALL], 'cutout=16: expected less than the image size, 8'),
    ([DIGITS, '--config.space.name=s5'], "unknown search space 's5': expected one of nas_bench_201, darts"),
    ([DIGITS, '--config.space.operations=("none", "conv_9x9")'], "unknown operation 'conv_9x9'"),
    ([DIGITS, '--config.space.operations=(3,)'], 'allowed is a tuple of texts'),
    (['--config=configs/robust_darts.py:s9,cifar10'], 'SPACE,DATASET[,proxy] of s1, s2, s3, s4 and cifar10'),
    ([RETRAIN], 'the genotype is missing'),
    ([RETRAIN, '--config.genotype=Genotype(normal=[])'], "cannot read the genotype 'Genotype(normal=[])'"),
    (
      ['--config', 'configs/digits.py', '--config.search.epoch', '3'],
      'error: unknown config.search.epoch: did you mean config.search.epochs or',
    ),
    (['--config', 'configs/none.py'], '--config=configs/none.py: no such file'),
    (
      [RETRAIN, '--config.genotype=DARTSV2'],
      "'DARTSV2' is not a folder, a file or a published cell: did you mean DARTS_V2?",
    ),
    ([RETRAIN, '--config.genotype=tests'], 'tests has no genotype.json'),
    ([RETRAIN, f'--config.genotype={ARCH}'], 'is one cell: allowed is config.network.stem'),
    ([RETRAIN, '--config.genotype=Genotype(normal=[(a, 0)])'], '(a is a name: expected a string in quotes'),
    (
      [RETRAIN, '--config.genotype=DARTS_V2', '--config.network.stem=nas_bench_201'],
      'stem are cifar, imagenet; see configs/retrain_cifar10.py',
    ),
    ([RETRAIN, '--config.genotype=DARTS_V2'], '8×8 pixels, allowed are multiples of 4 from 32 on, for the auxiliary'),
    ([RETRAIN, '--config.train.schedule=step'], 'allowed are cosine_epochs, cosine_steps, linear_tail'),
    ([RETRAIN, '--config.train.drop_path_rate=1.0'], 'allowed is a number below 1'),
    (
      [RETRAIN, '--config.search.epochs=3'],
      'unknown config.search.epochs: it is of the task search; did you mean config.train.epochs? allowed are check',
    ),
    (
      [DIGITS, '--config.epochs=3'],
      'unknown config.epochs: did you mean config.retrain.epochs or config.search.epochs?',
    ),
    ([DIGITS, '--config.train.epochs=3'], 'did you mean config.retrain.epochs or config.search.epochs? allowed'),
    ([DIGITS, '--config.search.seeds=3'], 'did you mean config.search.seed or config.population.seeds? allowed'),
    ([DIGITS, '--config.momentun=0.5'], 'unknown config.momentun: allowed are benchmark'),
    ([DIGITS, '--config.momentum=0.5'], 'did you mean config.retrain.momentum or config.search.momentum? allowed'),
    ([DIGITS, '--config.genotype=x'], 'unknown config.genotype: it is of the task retrain; allowed are benchmark'),
    (['--config=configs/retrain_imagenet.py', '--config.genotype=DARTS_V2'], 'imagenet2012 is not prepared in'),
    ([DIGITS, '--config.benchmark.table=README.md'], 'README.md: line 2 is damaged'),
    ([DIGITS, '--config.benchmark.table=none.csv'], f'NAS-Bench-201 table not found: {ROOT / "none.csv"}'),
    ([DIGITS, '--config.data.source=cifar10', '--config.data.data_dir=none'], 'data_dir=none: no such folder; create it'),
  ],
)
def test_mistakes_are_one_line_and_leave_nothing(fork, arguments, message, tmp_path):
  if RETRAIN in arguments:
    arguments = [*arguments, '--config.data.source=digits']
  (outputs := tmp_path / 'outputs').mkdir()
  (empty := tmp_path / 'empty').mkdir()
  where = [] if any(argument.startswith(('--workdir', '--report')) for argument in arguments) else [f'{empty}/run']
  done = fork(outputs, *arguments, *(f'--workdir={path}' for path in where), TFDS_DATA_DIR=str(empty))
  assert done.returncode == 2, done.stderr
  assert message in done.stderr
  assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1
  assert not list(empty.iterdir())


def test_a_config_file_may_add_operations(fork, tmp_path):
  """What is wrong with the config is said before the folder, here of another run, is looked at."""
  own = """
from beta_darts_jax.config import default
from beta_darts_jax.networks.operations import OPERATIONS

{}
def get_config():
  config = default()
  config.space.operations = ('shift', 'skip_connect')
  config.data.source = 'folder:/none'
  return config
"""
  (tmp_path / 'run').mkdir()
  (tmp_path / 'run' / 'config.json').write_text('{}')
  for number, (added, other, said) in enumerate([
    ("OPERATIONS['shift'] = OPERATIONS['skip_connect']", '', 'error: folder:/none: no such folder'),
    ("OPERATIONS['shift'] = OPERATIONS['skip_connect']", 'run', 'run belongs to a run with different settings'),
    ('', 'run', "error: unknown operation 'shift': allowed are none, skip_connect"),
  ]):  # fmt: skip
    (folder := tmp_path / str(number)).mkdir()
    (folder / 'own.py').write_text(own.format(added))
    done = fork(folder, f'--config={folder}/own.py', f'--workdir={tmp_path / (other or "new")}')
    assert done.returncode == 2 and said in done.stderr and done.stderr.count('\n') == 1, done.stderr
    assert 'unknown' not in said or 'and those that a config file adds to them' in done.stderr


def test_interrupted_before_the_run(fork, tmp_path):
  """What other threads do, a download for one, is not waited for."""
  busy = 'import threading, time; threading.Thread(target=time.sleep, args=(100,)).start()\n'
  (tmp_path / 'own.py').write_text(f'{busy}raise KeyboardInterrupt\n')
  began = time.monotonic()
  done = fork(tmp_path, f'--config={tmp_path}/own.py')
  assert (done.returncode, done.stderr) == (130, 'error: interrupted; the same command goes on\n')
  assert time.monotonic() < began + 90


def test_what_a_config_file_lacks_is_named(fork, tmp_path):
  (tmp_path / 'own.py').write_text('def get_config(name):\n  return {}[name]\n')
  done = fork(tmp_path, f'--config={tmp_path}/own.py:foo')
  assert (done.returncode, done.stderr) == (2, f"error: --config={tmp_path}/own.py:foo: KeyError: 'foo'\n")


def test_values_that_nothing_reads_are_told(fork, tmp_path):
  done = fork(tmp_path, DIGITS, '--config.supernet.layers=3', '--config.data.source=folder:none')
  assert done.returncode == 2 and done.stdout.startswith('config.supernet.layers=3 has no effect')


def test_output_that_nobody_reads(tmp_path):
  """A pipe that nobody reads ends the run in one line, or in silence; closed streams end nothing."""
  environment = {name: value for name, value in os.environ.items() if name != 'PYTHONUNBUFFERED'}
  reading, writing = os.pipe()
  os.close(reading)
  unread = functools.partial(subprocess.run, cwd=ROOT, env=environment, text=True)
  command = [sys.executable, '-m', 'beta_darts_jax.main', DIGITS, f'--workdir={tmp_path}/run']
  done = unread(command, stdout=writing, stderr=subprocess.PIPE)
  assert done.returncode == 2 and done.stderr.startswith('error: nobody reads') and done.stderr.count('\n') == 1
  done = unread(command, stdout=writing, stderr=writing)
  os.close(writing)
  assert done.returncode == 2
  closed = f'{sys.executable} -m beta_darts_jax.main --config=configs/none.py 2>&-'
  done = unread(closed, shell=True, capture_output=True)
  assert (done.returncode, done.stdout) == (2, '')


def test_other_pipes_are_no_output():
  reading, writing = os.pipe()
  os.close(reading)
  with pytest.raises(BrokenPipeError), told(''):
    os.write(writing, b'x')
  os.close(writing)


def test_closed_streams_are_no_files_of_a_run():
  code = """
import os, sys
for number in (1, 2):
  os.close(number)
sys.stdout = sys.stderr = None
from beta_darts_jax.main import open_streams
open_streams()
print('nothing')
found = os.dup(0), [os.readlink(f'/proc/self/fd/{number}') for number in (1, 2)]
sys.exit(0 if found[0] > 2 and found[1] == ['/dev/null'] * 2 and os.get_inheritable(2) else 3)
"""
  assert subprocess.run([sys.executable, '-c', code], cwd=ROOT).returncode == 0


def test_help_is_no_mistake_on_any_terminal(monkeypatch):
  monkeypatch.setenv('PYTHONIOENCODING', 'ascii')
  done = start('--help')
  assert done.returncode == 0 and '--config configs/digits.py' in done.stdout and not done.stderr
  assert '\\u03b1' in done.stdout and 'parallel.strategy' in done.stdout and 'train.drop_path_rate' in done.stdout


def test_help_whose_reader_has_gone_is_silent():
  command = f'{sys.executable} -m beta_darts_jax.main --help | head -1'
  done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
  assert done.stdout.count('\n') == 1 and not done.stderr


@pytest.mark.parametrize('ignored', [False, True])
def test_interrupted_while_jax_is_imported(ignored):
  """It ends at once, without a traceback; where SIGINT is ignored, as in a script's background, it goes on."""
  command = [sys.executable, '-X', 'importtime', '-m', 'beta_darts_jax.main', '--config=configs/none.py']
  before = signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.SIG_DFL)  # which the command inherits
  try:
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
  finally:
    signal.signal(signal.SIGINT, before)
  while ' jax._src.' not in (line := process.stderr.readline()):
    assert line, 'it ended before'
  process.send_signal(signal.SIGINT)
  rest = process.communicate(timeout=60)[1]
  assert process.returncode == (2 if ignored else -signal.SIGINT)
  assert 'Traceback' not in rest and ('no such file' in rest) == ignored


def test_a_run_heeds_only_the_signals_that_are_not_ignored():
  from beta_darts_jax.main import stop_signals

  before = signal.signal(signal.SIGINT, signal.SIG_IGN)
  try:
    with stop_signals() as stop:
      os.kill(os.getpid(), signal.SIGINT)
      assert not stop.is_set()
      os.kill(os.getpid(), signal.SIGTERM)
      assert stop.wait(10)
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
  finally:
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize('heard', [True, False])
def test_signals_are_heeded_during_a_compilation(heard):
  """Here a long call that Python's handlers wait for. One passed on at once counts once, a later one ends it.

  So also where nobody reads what the process says. A terminal gets its cursor back.
  """
  code = """
import hashlib
from beta_darts_jax.main import stop_signals
with stop_signals():
  print('computing', flush=True)
  hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)
"""
  reading, writing = os.openpty() if heard else os.pipe()
  with subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=writing, text=True) as process:
    os.close(writing)
    assert process.stdout.readline() == 'computing\n'
    if not heard:
      os.close(reading)
    process.send_signal(signal.SIGTERM)
    if heard:
      assert os.read(reading, 1000).startswith(b'stopping as soon as')
      process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
      process.wait(1.5)
    for _ in range(30):  # the first may be heeded late
      process.send_signal(signal.SIGINT)
      with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1)
        break
    assert process.returncode == 128 + signal.SIGINT
  if heard:
    assert os.read(reading, 1000).strip() == SHOW_CURSOR.strip()
    os.close(reading)


def test_unwritable_workdir(tmp_path):
  (tmp_path / 'file').write_text('')
  done = start(DIGITS, f'--workdir={tmp_path}/file/run')
  assert done.returncode == 2 and done.stderr.count('\n') == 1 and 'cannot write' in done.stderr


def test_what_a_full_disk_says():
  """Errors of TensorStore and Orbax that the system's words are in, and their causes."""
  from beta_darts_jax.main import _cannot_write

  full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
  wrapped = ValueError('RESOURCE_EXHAUSTED: Error writing "a": No space left on device [OS error 28]')
  later = RuntimeError('saving failed')
  later.__cause__ = full
  assert {_cannot_write(error) for error in (full, wrapped, later)} == {'No space left on device'}
  assert _cannot_write(ValueError('other')) is None and _cannot_write(OSError(errno.ENOENT, 'gone')) is None

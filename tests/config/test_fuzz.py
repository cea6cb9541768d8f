"""Made-up configs and command lines: never a traceback, never half a run."""

import collections
import multiprocessing
import os
import pathlib
import shutil
import string
import sys
import traceback

import jax
import pytest
from flax.traverse_util import unflatten_dict
from hypothesis import HealthCheck, given, settings, strategies as st
from ml_collections import ConfigDict

import beta_darts_jax as bd
from beta_darts_jax import InputError
from beta_darts_jax.config import DEFAULTS, flatten, keys_of
from beta_darts_jax.config.check import check
from beta_darts_jax.networks.operations import OPERATIONS
from beta_darts_jax.spaces.published import PUBLISHED

ROOT = pathlib.Path(__file__).parents[2]
FUZZED = settings(
  max_examples=60, deadline=None, derandomize=True, database=None,
  suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
ALL_NONE = '|none~0|+|none~0|none~1|+|none~0|none~1|none~2|'

NUMBERS = st.one_of(st.integers(-(10**30), 10**30), st.integers(-3, 3), st.floats(), st.booleans())
TEXTS = st.text(st.characters(codec='utf-8', exclude_characters='\0'), max_size=30)
WORDS = st.text(string.ascii_lowercase + '_.,:|~+()[]\'"', max_size=20)
TUPLES = st.lists(st.one_of(NUMBERS, WORDS, st.none()), max_size=4).map(tuple)
VALUES = st.one_of(NUMBERS, TEXTS, WORDS, TUPLES, st.none())


# ---- check ----


@st.composite
def odd_configs(draw):
  """A config with one to three values of any type."""
  values = flatten(DEFAULTS[draw(st.sampled_from(sorted(DEFAULTS)))]())
  names = draw(st.lists(st.sampled_from(sorted(values)), min_size=1, max_size=3, unique=True))
  return ConfigDict(unflatten_dict(values | {name: draw(VALUES) for name in names}, sep='.'), type_safe=False)


@settings(FUZZED, max_examples=200)
@given(config=odd_configs())
def test_check_allows_a_config_or_raises_one_line(config):
  try:
    assert check(config).is_locked
  except InputError as error:
    assert str(error).startswith('config.') and '\n' not in str(error)


# ---- command lines ----


@st.composite
def command_lines(draw):
  """A config with one to three values that anybody might mistype; the data that it asks for does not exist."""
  task, path = draw(st.sampled_from([('search', 'configs/digits.py'), ('retrain', 'configs/retrain_cifar10.py')]))
  names = sorted(key.name for key in keys_of(task) if key.name != 'data.source')
  chosen = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
  values = [f'--config.{name}={draw(VALUES)}' for name in chosen]
  return [f'--config={path}', *values, '--config.data.source=folder:/nowhere/at/all']


def run_forever(connection):
  """Runs the command lines that arrive, each in a fork of this process, which has imported everything."""
  while (received := connection.recv()) is not None:
    folder, arguments = received
    if not (child := os.fork()):
      status = 1
      try:
        run_command(folder, arguments)
        status = 0
      except SystemExit as end:
        status = end.code or 0
      except Exception:
        traceback.print_exc()
      finally:
        sys.stderr.flush()
        os._exit(status)
    connection.send(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def run_command(folder, arguments):
  os.chdir(ROOT)
  sys.argv = ['beta_darts_jax.main', *arguments]
  from beta_darts_jax import main

  for number, name in ((1, 'stdout'), (2, 'stderr')):
    os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT), number)
  main.cli()


@pytest.fixture(scope='module')
def run():
  """A function (folder, arguments) → (exit status, text on stderr) of the command."""
  context = multiprocessing.get_context('forkserver')
  context.set_forkserver_preload(['beta_darts_jax.command.line', 'beta_darts_jax.search', 'beta_darts_jax.retrain'])
  ours, theirs = context.Pipe()
  process = context.Process(target=run_forever, args=(theirs,))
  process.start()

  def command(folder, arguments):
    for name in ('stdout', 'stderr'):
      (folder / name).write_text('')
    ours.send((folder, arguments))
    assert ours.poll(60), arguments
    return ours.recv(), (folder / 'stderr').read_text()

  yield command
  ours.send(None)
  process.join()


@FUZZED
@given(arguments=command_lines())
def test_a_command_line_with_mistakes_ends_with_one_line(run, tmp_path, arguments):
  (empty := tmp_path / 'empty').mkdir(exist_ok=True)
  status, text = run(tmp_path, [*arguments, f'--workdir={empty}/run'])
  assert status == 2 and text.startswith('error: ') and text.count('\n') == 1, (arguments, status, text)
  assert not list(empty.iterdir())


# ---- whole runs, up to the compilation ----


class Compiled(Exception):
  """A run reached its compilation: its config has no more mistakes."""


SMALL = {
  'data.source': 'digits', 'data.cutout': 0, 'supernet.channels': 4, 'supernet.cells_per_stage': 1,
  'supernet.layers': 1, 'network.channels': 4, 'network.layers': 1, 'network.cells_per_stage': 1,
  'network.auxiliary_weight': 0.0, 'genotype': 'DARTS_V2',
}  # fmt: skip
NAMED = {'data.source': ['digits'], 'genotype': [*PUBLISHED, ALL_NONE], 'profile': ['', '0:3', '3:100']}
SAMPLES = {float: [0.0, 1e-9, 0.1, 0.5, 1.0, 3.0], int: list(range(10)), bool: [False, True]}


def plausible(key):
  """Values of the right type for a key, most of them allowed."""
  if key.name in NAMED:
    return st.sampled_from(NAMED[key.name])
  choices = OPERATIONS if key.name == 'space.operations' else key.choices
  items = st.sampled_from(sorted(choices) if choices is not None else SAMPLES.get(key.item_type, [key.default]))
  if not isinstance(key.default, tuple):
    return items
  return st.lists(items, max_size=3).map(tuple) if key.items else st.tuples(*(items for _ in key.default))


@st.composite
def plausible_configs(draw):
  """A small search or retraining with up to five values changed to plausible ones."""
  task = draw(st.sampled_from(sorted(DEFAULTS)))
  keys = {key.name: key for key in keys_of(task)}
  names = sorted(name for name in keys if name != 'task' and not name.startswith('parallel.'))
  chosen = draw(st.lists(st.sampled_from(names), max_size=5, unique=True))
  changes = {name: value for name, value in SMALL.items() if name in keys}
  config = DEFAULTS[task]()
  config.update_from_flattened_dict(changes | {name: draw(plausible(keys[name])) for name in chosen})
  return config


@pytest.mark.full
def test_a_run_raises_one_line_or_compiles(tmp_path, monkeypatch):
  """On data that exist: one line and nothing written, or programs that can be compiled."""

  def compile_nothing(*_, **__):
    raise Compiled

  monkeypatch.setattr(jax.stages.Lowered, 'compile', compile_nothing)
  monkeypatch.delenv('NAS_BENCH_201_TABLE', raising=False)
  folder, ends = tmp_path / 'run', collections.Counter()

  @settings(FUZZED, max_examples=10)
  @given(config=plausible_configs())
  def ends_well(config):
    run = bd.run_search if config.task == 'search' else bd.run_retrain
    try:
      run(check(config), folder)
    except InputError as error:
      assert str(error) and '\n' not in str(error) and not folder.exists(), (error, config)
      ends['refused'] += 1
    except Compiled:
      shutil.rmtree(folder)
      ends[config.task] += 1
    else:
      pytest.fail('nothing was compiled')

  ends_well()
  assert len(ends) == 3, ends

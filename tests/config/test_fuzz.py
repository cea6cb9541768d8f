"""Made-up command lines, configs and genotypes: never a traceback, never half a run."""

import collections
import multiprocessing
import os
import shutil
import string

import jax
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_main import _as_a_command

from beta_darts_jax import DARTS, NAS_BENCH_201, InputError, main
from beta_darts_jax.config import check as validation
from beta_darts_jax.config import default, default_retrain, leaves
from beta_darts_jax.method.regularizers import REGULARIZERS
from beta_darts_jax.networks.operations import OPERATIONS
from beta_darts_jax.retrain import run as retrain
from beta_darts_jax.search.population import VARIED
from beta_darts_jax.spaces.genotype import Genotype
from beta_darts_jax.spaces.published import PUBLISHED
from beta_darts_jax.spaces.space import SPACES

FUZZED = settings(
  max_examples=200, deadline=None, derandomize=True, database=None,
  suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
ALL_NONE = '|none~0|+|none~0|none~1|+|none~0|none~1|none~2|'
CONFIGS = {'configs/digits.py': default(), 'configs/retrain_cifar10.py': default_retrain()}


NUMBERS = st.one_of(st.integers(-(10**30), 10**30), st.integers(-3, 3), st.floats(), st.booleans()).map(str)
TEXTS = st.text(st.characters(codec='utf-8', exclude_characters='\0'), max_size=30)
WORDS = st.text(string.ascii_lowercase + '_.,:|~+()[]\'"', max_size=20)
TUPLES = st.lists(st.one_of(NUMBERS, WORDS.map(repr)), max_size=4).map(lambda items: f'({", ".join(items)},)')
VALUES = st.one_of(NUMBERS, WORDS, TEXTS, TUPLES)


@st.composite
def command_lines(draw):
  """A config with one to three values that anybody might mistype; the data that it asks for does not exist."""
  path = draw(st.sampled_from(sorted(CONFIGS)))
  names = sorted(name for name, _ in leaves(CONFIGS[path]) if name != 'data.source')
  chosen = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
  values = [f'--config.{name}={draw(VALUES)}' for name in chosen]
  return [f'--config={path}', *values, '--config.data.source=folder:/nowhere/at/all']


def _drive(connection):
  """Runs the command lines that come in, each in a fork of this process, which has imported everything."""
  while (received := connection.recv()) is not None:
    folder, arguments = received
    if not (child := os.fork()):
      status = 1
      try:
        _as_a_command(folder, arguments, {})
        status = 0
      except SystemExit as end:
        status = end.code or 0
      finally:
        os._exit(status)
    connection.send(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


@pytest.fixture(scope='module')
def run():
  context = multiprocessing.get_context('forkserver')
  context.set_forkserver_preload([f'beta_darts_jax.{name}' for name in ('main', 'search', 'streaming')])
  ours, theirs = context.Pipe()
  process = context.Process(target=_drive, args=(theirs,))
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
def test_command_lines(run, tmp_path, arguments):
  (empty := tmp_path / 'empty').mkdir(exist_ok=True)
  status, said = run(tmp_path, [*arguments, f'--workdir={empty}/run'])
  assert status == 2 and said.startswith('error: ') and said.count('\n') == 1, (arguments, status, said)
  assert 'Traceback' not in said and not list(empty.iterdir())


class Traced(Exception):
  """A run has come to what its config cannot spoil any more: compiling, or training."""


SMALL = {
  'data.source': 'digits', 'supernet.channels': 4, 'supernet.cells_per_stage': 1, 'supernet.layers': 1,
  'network.channels': 4, 'network.layers': 1, 'network.cells_per_stage': 1, 'network.auxiliary_weight': 0.0,
  'data.cutout': 0, 'genotype': 'DARTS_V2',
}  # fmt: skip
CELLS = [*PUBLISHED, ALL_NONE]
SEVERAL = {
  'search.regularizers': tuple(REGULARIZERS), 'space.operations': tuple(OPERATIONS),
  **{f'population.{name}': (0.0, 0.5, 5, 50.0) for name in VARIED},
}  # fmt: skip


def plausible(name, value):
  """Values of the right kind for a key, most of them allowed."""
  if name in SEVERAL:
    return st.lists(st.sampled_from(SEVERAL[name]), max_size=3).map(tuple)
  if name in validation.CHOICES:
    return st.sampled_from(validation.CHOICES[name])
  named = {'space.name': sorted(SPACES), 'genotype': CELLS, 'profile': ['', '0:3', '3:100'], 'data.source': ['digits']}
  if name in named:
    return st.sampled_from(named[name])
  if isinstance(value, tuple):
    return st.tuples(*(st.sampled_from((0.0, 0.1, 0.5, 1.0)) for _ in value))
  kinds = {bool: st.booleans(), int: st.integers(0, 9), float: st.sampled_from((0.0, 1e-9, 0.1, 0.5, 1.0, 3.0))}
  return kinds.get(type(value), st.just(value))


@st.composite
def configs(draw):
  """A small search or retraining with up to five values changed to plausible ones."""
  made = draw(st.sampled_from((default, default_retrain)))()
  values = dict(leaves(made))
  names = sorted(name for name in values if not name.startswith('parallel.'))
  chosen = draw(st.lists(st.sampled_from(names), max_size=5, unique=True))
  changes = {name: value for name, value in SMALL.items() if name in values}
  changes |= {name: draw(plausible(name, values[name])) for name in chosen}
  made.update_from_flattened_dict(changes)
  return made


def test_configs(tmp_path, monkeypatch, pytestconfig):
  """On data that exist: one line and nothing written, or programs that can be compiled. Two hundred with --full."""

  def compiled(*_, **__):
    raise Traced

  monkeypatch.setattr(jax.stages.Lowered, 'compile', compiled)  # of a search, all traced and lowered
  monkeypatch.setattr(retrain, 'run', compiled)  # with the network and its first state
  monkeypatch.delenv('NAS_BENCH_201_TABLE', raising=False)
  folder, ends = tmp_path / 'run', collections.Counter()

  @settings(FUZZED, max_examples=200 if pytestconfig.getoption('full') else 10)
  @given(made=configs())
  def ends_well(made):
    try:
      {'search': main.run_search, 'retrain': main.run_retrain}[made.task](validation.check(made), folder)
    except InputError as error:
      assert str(error) and '\n' not in str(error) and not folder.exists(), (error, made)
      ends['refused'] += 1
    except Traced:
      shutil.rmtree(folder)
      ends[made.task] += 1
    else:
      pytest.fail('nothing was compiled')

  ends_well()
  assert len(ends) == 3, ends


PIECES = """
| + ~ 0 1 9 none nor_conv_3x3 skip_connect Genotype( normal= [ ] ( ) , 'sep_conv_3x3' reduce_concat range(2,6) { } " :
__import__("os") \\ β
""".split()  # noqa: SIM905
PARTS = st.sampled_from([*PIECES, ' ', '\0'])
KNOWN = [ALL_NONE, *map(str, PUBLISHED.values())]


@st.composite
def genotype_texts(draw):
  """Pieces in any order, or a known cell with a few pieces put in, or characters left out."""
  if draw(st.booleans()):
    return ''.join(draw(st.lists(PARTS, max_size=20)))
  text = draw(st.sampled_from(KNOWN))
  for _ in range(draw(st.integers(1, 3))):
    at = draw(st.integers(0, len(text)))
    text = text[:at] + draw(PARTS) + text[at + draw(st.integers(0, 3)) :]
  return text


@FUZZED
@given(text=st.one_of(genotype_texts(), TEXTS))
def test_genotypes(text):
  """Either a genotype, which reads back as itself, or one line."""
  for parse in (Genotype.parse, NAS_BENCH_201.parse, DARTS.parse):
    try:
      genotype = parse(text)
    except InputError as error:
      assert str(error) and '\n' not in str(error)
    else:
      assert parse(str(genotype)) == genotype

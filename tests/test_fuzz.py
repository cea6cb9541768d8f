"""Two hundred made-up command lines and two hundred genotypes: never a traceback, never half a run."""

import multiprocessing
import os
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_main import _as_a_command

from beta_darts_jax import DARTS, NAS_BENCH_201, InputError
from beta_darts_jax.config import default, default_retrain
from beta_darts_jax.genotype import Genotype, published

FUZZED = settings(
  max_examples=200, deadline=None, derandomize=True, database=None,
  suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
CONFIGS = {'configs/digits.py': default(), 'configs/retrain_cifar10.py': default_retrain()}


def leaves(tree, prefix=''):
  for name, value in tree.items():
    yield from leaves(value, f'{prefix}{name}.') if isinstance(value, dict) else [(f'{prefix}{name}', value)]


NUMBERS = st.one_of(st.integers(-(10**30), 10**30), st.integers(-3, 3), st.floats(), st.booleans()).map(str)
TEXTS = st.text(st.characters(codec='utf-8', exclude_characters='\0'), max_size=30)
WORDS = st.text(string.ascii_lowercase + '_.,:|~+()[]\'"', max_size=20)
TUPLES = st.lists(st.one_of(NUMBERS, WORDS.map(repr)), max_size=4).map(lambda items: f'({", ".join(items)},)')
VALUES = st.one_of(NUMBERS, WORDS, TEXTS, TUPLES)


@st.composite
def command_lines(draw):
  """A config with one to three values that anybody might mistype; the data that it asks for does not exist."""
  path = draw(st.sampled_from(sorted(CONFIGS)))
  names = sorted(name for name, _ in leaves(CONFIGS[path].to_dict()) if name != 'data.source')
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


PIECES = """
| + ~ 0 1 9 none nor_conv_3x3 skip_connect Genotype( normal= [ ] ( ) , 'sep_conv_3x3' reduce_concat range(2,6) { } " :
__import__("os") \\ β
""".split()  # noqa: SIM905
PARTS = st.sampled_from([*PIECES, ' ', '\0'])
KNOWN = ['|none~0|+|none~0|none~1|+|none~0|none~1|none~2|', *map(str, published().values())]


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

import importlib
import itertools
import os
import pathlib
import shlex
import socket
import sys
import tracemalloc  # noqa: F401, pytest imports it in any place, and would fail within the lazy imports of TFDS
from importlib.metadata import version

# Compiling takes most of the tests' time. Equal programs are compiled once, in subprocesses too. The programs of this
# process run a few times only, so XLA optimizes them little.
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(pathlib.Path(__file__).parent.parent / '.pytest_cache' / 'jax'))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.5')

import numpy as np
import pytest
from absl import flags

from beta_darts_jax import NAS_BENCH_201, NasBench201, interop
from beta_darts_jax.command import parsing
from beta_darts_jax.spaces.nas_bench_201 import ACCURACIES, Row

# The older fusion emitters, which jaxlib has up to 0.10, compile in half the time of the newer ones.
_OLDER = version('jaxlib').startswith('0.10.')
_WITH = ' --xla_cpu_use_fusion_emitters=false' if _OLDER else ''
os.environ.setdefault('XLA_FLAGS', f'--xla_backend_optimization_level=0{_WITH}')  # read at the first JAX operation
COMPILED_FAST = {'XLA_FLAGS': os.environ['XLA_FLAGS']}  # for subprocesses
# For subprocesses that take many steps: compiling takes twice the time, a step a fifth.
COMPILED_WELL = {'XLA_FLAGS': f'--xla_backend_optimization_level=1{_WITH}'}
# For jax.jit(compiler_options=…).
FULLY_OPTIMIZED = {'xla_backend_optimization_level': 3} | ({'xla_cpu_use_fusion_emitters': True} if _OLDER else {})
ROOT = pathlib.Path(__file__).parent.parent
GOLDEN = ROOT / 'tests' / 'golden'


def external(variable: str) -> str:
  """Returns the path in an environment variable. Without it the test is skipped, or fails if REQUIRE_DATA is set."""
  if path := os.environ.get(variable):
    return path
  if os.environ.get('REQUIRE_DATA'):
    pytest.fail(f'{variable} is not set')
  pytest.skip(f'{variable} is not set')


def optional(module: str):
  """Returns a module of an extra. Without it the test is skipped, or fails if REQUIRE_EXTRAS is set."""
  if os.environ.get('REQUIRE_EXTRAS'):
    return importlib.import_module(module)
  return pytest.importorskip(module)


@pytest.fixture
def tfds_dir():
  return external('TFDS_DATA_DIR')


@pytest.fixture(scope='session')
def table_path():
  return external('NAS_BENCH_201_TABLE')


def made_up_lines() -> list[dict]:
  """Returns the lines of a benchmark table whose accuracy grows with the number of 3×3 convolutions."""
  lines = []
  for index, choice in enumerate(itertools.product(range(5), repeat=6)):
    genotype = NAS_BENCH_201.derive({'cell': np.eye(5)[list(choice)]})
    accuracy = 50 + 5 * choice.count(3) + index / 1e5
    line = {
      'index': index, 'arch': str(genotype), 'trials': 3, 'parameters_cifar10': 1000 * choice.count(3) + 1,
      'flops_cifar10': 1,
    } | {name: accuracy for name in ACCURACIES}  # fmt: skip
    lines.append(line)
  return lines


@pytest.fixture(scope='session')
def made_up_table():
  rows = {}
  for line in made_up_lines():
    cell = line.pop('arch')
    rows[cell] = Row(**line)
  return NasBench201(rows)


@pytest.fixture
def parse_line(monkeypatch):
  """A function that parses a command line in the project's folder: line → (what `parse` returns, the flags)."""

  def parse_flags(line: str | list[str]):
    words = shlex.split(line) if isinstance(line, str) else line
    values = flags.FlagValues()
    parsing.define_flags(values)
    with monkeypatch.context() as patched:
      patched.chdir(ROOT)
      patched.setattr(sys, 'argv', ['beta-darts', *words])  # ml_collections reads it
      return parsing.parse(sys.argv, values), values

  return parse_flags


def free_port() -> int:
  with socket.socket() as s:
    s.bind(('localhost', 0))
    return s.getsockname()[1]


def golden(name: str, dtype=np.float32, space=NAS_BENCH_201):
  """Returns the arrays of a golden file, and a function: prefix → (α, our variables of the state dict under it)."""
  with np.load(GOLDEN / f'{name}.npz') as file:
    arrays = {key: file[key] for key in file.files}

  def variables(prefix):
    state_dict = {k.removeprefix(prefix): v.astype(dtype) for k, v in arrays.items() if k.startswith(prefix)}
    return {'cell': state_dict.get('_arch_parameters')}, interop.supernet_variables(state_dict, space)

  return arrays, variables


def relative_difference(actual, expected):
  return np.abs(actual - expected).max() / np.abs(expected).max()


def nhwc(images):
  return np.moveaxis(images, -3, -1)


def pytest_collection_modifyitems(items):
  """Puts the longest files first, so that parallel workers end together."""
  longest = [
    *('test_devices', 'test_end_to_end', 'test_benchmarks', 'test_method', 'test_docs', 'test_run', 'test_bilevel'),
    *('test_official_pc_darts', 'test_supernet', 'test_notebooks', 'test_packaging', 'test_relaxations', 'test_rows'),
    *('test_official_drnas', 'test_studies', 'test_fuzz', 'test_page', 'test_data', 'test_hypergradients'),
  ]
  items.sort(key=lambda item: longest.index(item.path.stem) if item.path.stem in longest else len(longest))

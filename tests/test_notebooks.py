"""The notebooks run from the first cell to the last, and what they print has the promised form."""

import pathlib
import re

import nbformat
import pytest
from conftest import COMPILED_WELL
from nbclient import NotebookClient

from beta_darts_jax import NAS_BENCH_201, SearchSpace

FOLDER = pathlib.Path(__file__).parent.parent / 'notebooks'
OWN_SPACE = SearchSpace(
  'mine', 'nas_bench_201', nodes=2, operations=('none', 'skip_connect', 'nor_conv_3x3', 'avg_pool_3x3')
)


def functional_search(printed):
  NAS_BENCH_201.parse(printed)


def own_space(printed):
  found = re.findall(r'spread of β (\S+), cell (\S+)', printed)
  (without, regularized), cells = ([float(spread) for spread, _ in found], [cell for _, cell in found])
  assert regularized < without / 2
  assert all(OWN_SPACE.parse(cell) for cell in cells)


def population(printed):
  found = re.findall(r'largest eigenvalue (\S+), cell (\S+)', printed)
  assert len(found) == 3 and all(abs(float(value)) > 0 and NAS_BENCH_201.parse(cell) for value, cell in found)


def check_outputs(notebook, check):
  outputs = [output for cell in notebook.cells for output in cell.get('outputs', [])]
  check(''.join(output.get('text', '') for output in outputs))
  has_figure = any('image/png' in output.get('data', {}) for output in outputs)
  assert has_figure == (check is not own_space)


every_notebook = pytest.mark.parametrize('check', [functional_search, own_space, population])


@every_notebook
def test_a_notebook_keeps_its_outputs(check):
  path = FOLDER / f'{check.__name__}.ipynb'
  check_outputs(nbformat.read(path, as_version=4), check)
  assert path.stat().st_size < 100_000


@pytest.mark.full
@every_notebook
# jupyter_client and its kernel warn about their own transports and event loops
@pytest.mark.filterwarnings('default')
def test_a_notebook_runs(check, monkeypatch):
  assert len(list(FOLDER.glob('*.ipynb'))) == 3
  monkeypatch.setenv('XLA_FLAGS', COMPILED_WELL['XLA_FLAGS'])
  monkeypatch.setenv('MPLBACKEND', 'module://matplotlib_inline.backend_inline')
  notebook = nbformat.read(FOLDER / f'{check.__name__}.ipynb', as_version=4)
  NotebookClient(notebook, timeout=300, resources={'metadata': {'path': str(FOLDER)}}).execute()
  check_outputs(notebook, check)

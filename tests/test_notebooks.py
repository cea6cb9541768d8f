import pathlib

import nbformat
import pytest
from nbclient import NotebookClient

from beta_darts_jax import NAS_BENCH_201

NOTEBOOKS = sorted((pathlib.Path(__file__).parent.parent / 'notebooks').glob('*.ipynb'))


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
# jupyter_client and its kernel warn about their own transports and event loops
@pytest.mark.filterwarnings('default')
def test_notebook_runs_and_finds_a_cell(path, monkeypatch):
  monkeypatch.setenv('MPLBACKEND', 'module://matplotlib_inline.backend_inline')
  notebook = nbformat.read(path, as_version=4)
  NotebookClient(notebook, timeout=300, resources={'metadata': {'path': str(path.parent)}}).execute()
  outputs = [output for cell in notebook.cells for output in cell.get('outputs', [])]
  assert any('image/png' in output.get('data', {}) for output in outputs)
  NAS_BENCH_201.parse(outputs[-1]['text'])

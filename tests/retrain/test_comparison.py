import threading
from unittest import mock

import numpy as np
import pytest

from beta_darts_jax import NAS_BENCH_201
from beta_darts_jax.config import default
from beta_darts_jax.data import Dataset
from beta_darts_jax.retrain.comparison import compare
from beta_darts_jax.retrain.run import make_network
from beta_darts_jax.runtime.workdir import Workdir

CELL = '|nor_conv_1x1~0|+|skip_connect~0|none~1|+|none~0|none~1|skip_connect~2|'


def test_a_cell_learns_beside_a_random_one(capsys, tmp_path):
  """Two classes, dark and bright: a few epochs separate them; the parameters are counted by hand.

  One by one they are kept: another process trains what is missing or damaged, a stopped one nothing.
  """
  labels = np.arange(96, dtype=np.int32) % 2
  noise = np.random.default_rng(0).integers(0, 56, (96, 4, 4, 1))
  images = (200 * labels[:, None, None, None] + noise).astype(np.uint8)
  dataset = Dataset('two', (images, labels), (images[:31], labels[:31]), 2, (0.5,), (0.4,))
  config = default()
  config.data.crop_padding, config.data.flip = 0, False
  recipe = config.retrain
  recipe.epochs, recipe.batch_size, recipe.channels, recipe.cells_per_stage, recipe.random_cells = 4, 32, 2, 1, 1
  stop = threading.Event()

  def compared(*networks):
    with (
      mock.patch('beta_darts_jax.retrain.comparison.make_network', side_effect=networks) as make,
      Workdir(tmp_path, config.to_dict()) as run,
    ):
      found = compare(NAS_BENCH_201, CELL, dataset, config, run, stop)
    assert make.call_count == len(networks)
    return found

  def network(cell):
    settings = recipe.to_dict() | {'stem': 'nas_bench_201', 'dtype': 'float32', 'auxiliary_weight': 0}
    return make_network(cell, 2, settings | {'auxiliary_skip': False}, (4, 4))

  rng = np.random.default_rng(config.search.seed)
  cells = NAS_BENCH_201.parse(CELL), NAS_BENCH_201.random_genotype(rng)
  with pytest.raises(RuntimeError, match='killed'):
    compared(network(cells[0]), RuntimeError('killed'))
  result = compared(network(cells[1]))
  found, (other,) = result['found'], result['random']
  assert (found['genotype'], other['genotype']) == tuple(map(str, cells))
  said = capsys.readouterr().out
  assert all(
    f'trained {cell["genotype"]}  test accuracy {100 * cell["test_accuracy"]:.2f} %' in said for cell in (found, other)
  )
  assert found['test_accuracy'] > 0.95 and found['test_loss'] < 0.5
  cells = sum(c * c + 2 * c for c in (2, 4, 8))  # 1×1 kernel, scale and bias
  blocks = sum(9 * c * 2 * c + 9 * 4 * c * c + 2 * c * c + 8 * c for c in (2, 4))
  assert found['parameters'] == 9 * 2 + 4 + cells + blocks + 16 + 8 * 2 + 2

  assert compared() == result
  (tmp_path / 'trained_cells.json').unlink()
  with pytest.raises(RuntimeError, match='again'):
    compared(RuntimeError('again'), RuntimeError('again'))
  stop.set()
  assert compared() is None

import threading
from unittest import mock

import numpy as np
import pytest

from beta_darts_jax import NAS_BENCH_201
from beta_darts_jax.comparison import compare
from beta_darts_jax.config import default
from beta_darts_jax.data import Dataset
from beta_darts_jax.workdir import Workdir

CELL = '|nor_conv_1x1~0|+|skip_connect~0|none~1|+|none~0|none~1|skip_connect~2|'


def test_a_cell_learns_beside_a_random_one(capsys, tmp_path):
  """Two classes, dark and bright: a few epochs separate them; the parameters are counted by hand.

  Another process trains nothing again, unless what was kept is damaged.
  """
  labels = np.arange(96, dtype=np.int32) % 2
  noise = np.random.default_rng(0).integers(0, 56, (96, 4, 4, 1))
  images = (200 * labels[:, None, None, None] + noise).astype(np.uint8)
  dataset = Dataset('two', (images, labels), (images[:31], labels[:31]), 2, (0.5,), (0.4,))
  config = default()
  config.data.crop_padding, config.data.flip = 0, False
  recipe = config.retrain
  recipe.epochs, recipe.batch_size, recipe.channels, recipe.cells_per_stage, recipe.random_cells = 4, 32, 2, 1, 1
  with Workdir(tmp_path, config.to_dict()) as run:
    result = compare(NAS_BENCH_201, CELL, dataset, config, run, threading.Event())
  found, (other,) = result['found'], result['random']
  assert found['genotype'] == CELL != other['genotype']
  said = capsys.readouterr().out
  assert all(
    f'trained {cell["genotype"]}  test accuracy {100 * cell["test_accuracy"]:.2f} %' in said for cell in (found, other)
  )
  assert found['test_accuracy'] > 0.95 and found['test_loss'] < 0.5
  cells = sum(c * c + 2 * c for c in (2, 4, 8))  # 1×1 kernel, scale and bias
  blocks = sum(9 * c * 2 * c + 9 * 4 * c * c + 2 * c * c + 8 * c for c in (2, 4))
  assert found['parameters'] == 9 * 2 + 4 + cells + blocks + 16 + 8 * 2 + 2

  with mock.patch('beta_darts_jax.comparison.make_network', side_effect=AssertionError('trained again')):
    with Workdir(tmp_path, config.to_dict()) as run:
      assert compare(NAS_BENCH_201, CELL, dataset, config, run, threading.Event()) == result
    file = tmp_path / 'trained_cells.json'
    file.write_text(file.read_text().replace('"test_loss": 0.', '"test_loss": 1.'))
    with Workdir(tmp_path, config.to_dict()) as run, pytest.raises(AssertionError, match='trained again'):
      compare(NAS_BENCH_201, CELL, dataset, config, run, threading.Event())

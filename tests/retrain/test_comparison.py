"""compare: the found cell and random cells, trained by one recipe."""

import dataclasses
from unittest import mock

import jax
import numpy as np
import pytest

from beta_darts_jax import NAS_BENCH_201, PUBLISHED, InputError
from beta_darts_jax.data import Augmentation, Dataset
from beta_darts_jax.retrain import comparison
from beta_darts_jax.retrain.recipe import Recipe
from beta_darts_jax.retrain.setup import NetworkOptions, check_network, make_network
from beta_darts_jax.runtime.workdir import Workdir

CELL = '|nor_conv_1x1~0|+|skip_connect~0|none~1|+|none~0|none~1|skip_connect~2|'
NETWORK = NetworkOptions(stem='nas_bench_201', channels=2, layers=1, cells_per_stage=1)
COMPARISON = comparison.Comparison(
  network=NETWORK,
  recipe=Recipe(epochs=4, batch_size=32, learning_rate=0.1, schedule='cosine_steps'),
  augmentation=Augmentation((0.5,), (0.4,), crop_padding=0, flip=False),
  random_cells=1,
  seed=0,
)


def dark_and_bright_images():
  """Two classes, which a few epochs separate."""
  labels = np.arange(96, dtype=np.int32) % 2
  noise = np.random.default_rng(0).integers(0, 56, (96, 4, 4, 1))
  images = (200 * labels[:, None, None, None] + noise).astype(np.uint8)
  return Dataset('two', (images, labels), (images[:31], labels[:31]), 2, (0.5,), (0.4,))


def test_compare_trains_each_cell_once(capsys, tmp_path):
  """A process that starts again trains the cells without a result. The parameters are counted by hand."""
  dataset = dark_and_bright_images()
  cells = NAS_BENCH_201.parse(CELL), NAS_BENCH_201.random_genotype(np.random.default_rng(COMPARISON.seed))

  def compare(*networks):
    """Compares with make_network returning, or raising, the given values, and checks that it takes all of them."""
    with (
      mock.patch.object(comparison, 'make_network', side_effect=networks) as make,
      Workdir(tmp_path, {}) as workdir,
    ):
      result = comparison.compare(COMPARISON, NAS_BENCH_201, CELL, dataset, workdir)
    assert make.call_count == len(networks)
    return result

  networks = [make_network(cell, 2, NETWORK, (4, 4)) for cell in cells]
  with pytest.raises(RuntimeError, match='killed'):
    compare(networks[0], RuntimeError('killed'))
  result = compare(networks[1])
  found, (other,) = result['found'], result['random']
  assert (found['genotype'], other['genotype']) == tuple(map(str, cells))
  printed = capsys.readouterr().out
  for cell in (found, other):
    assert f'trained {cell["genotype"]}  test accuracy {100 * cell["test_accuracy"]:.2f} %' in printed
  assert found['test_accuracy'] > 0.95 and found['test_loss'] < 0.5
  cell_parameters = sum(c * c + 2 * c for c in (2, 4, 8))  # 1×1 kernel, scale and bias
  blocks = sum(9 * c * 2 * c + 9 * 4 * c * c + 2 * c * c + 8 * c for c in (2, 4))
  assert found['parameters'] == 9 * 2 + 4 + cell_parameters + blocks + 16 + 8 * 2 + 2

  assert compare() == result
  (tmp_path / 'trained_cells.json').unlink()
  with pytest.raises(RuntimeError, match='again'):
    compare(RuntimeError('again'), RuntimeError('again'))


def test_train_cell_reports_a_diverged_training():
  recipe = dataclasses.replace(COMPARISON.recipe, learning_rate=1e30)
  diverging = dataclasses.replace(COMPARISON, recipe=recipe)
  result = comparison.train_cell(diverging, NAS_BENCH_201.parse(CELL), dark_and_bright_images(), jax.devices()[0])
  assert result['test_loss'] is None and result['test_accuracy'] is None and result['parameters'] > 0


def test_the_imagenet_stem_halves_its_channels_so_it_needs_two():
  options = NetworkOptions(stem='imagenet', channels=1, layers=3, cells_per_stage=1)
  with pytest.raises(InputError, match='channels=1: expected 2 or more with stem=imagenet'):
    check_network(PUBLISHED['DARTS_V2'], options)
  check_network(PUBLISHED['DARTS_V2'], dataclasses.replace(options, channels=2))

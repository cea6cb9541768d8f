"""The values of a config reach the run."""

import jax.numpy as jnp
import numpy as np
import pytest
from small_run import DATASET, make_config

from beta_darts_jax.config import default, default_retrain
from beta_darts_jax.config.check import check
from beta_darts_jax.data import Augmentation
from beta_darts_jax.retrain.setup import load_dataset, make_retrain_setup
from beta_darts_jax.search.setup import load_search_data, make_search_setup
from beta_darts_jax.spaces.published import PUBLISHED


def test_the_augmentation_and_the_number_format_of_a_config_are_those_of_the_run():
  changes = {'data.crop_padding': 1, 'data.flip': False, 'data.cutout': 2}
  expected = Augmentation(DATASET.mean, DATASET.std, crop_padding=1, flip=False, cutout=2)
  search, retrain = default(), default_retrain()
  search.update_from_flattened_dict(changes | {'supernet.dtype': 'bfloat16', 'search.batch_size': 16})
  retrain.update_from_flattened_dict(
    changes | {'network.dtype': 'bfloat16', 'network.auxiliary_weight': 0.0, 'train.batch_size': 8}
  )
  search_setup = make_search_setup(check(search), DATASET)
  retrain_setup = make_retrain_setup(check(retrain), PUBLISHED['DARTS_V2'], DATASET)
  assert search_setup.augmentation == retrain_setup.augmentation == expected
  assert search_setup.supernet.dtype == retrain_setup.network.dtype == jnp.bfloat16


def test_resized_crops_are_not_flipped_again_on_the_device():
  config = make_config(data__crops='resized', data__crop_padding=0, data__image_size=8)
  assert not make_search_setup(config, DATASET).augmentation.flip


@pytest.mark.parametrize('load, config', [(load_search_data, default), (load_dataset, default_retrain)])
def test_a_run_reads_its_part_of_the_training_images(load, config):
  options, parts = config().data, []
  options.source = 'digits'
  for options.part in ('all', 'first half', 'second half'):
    parts.append(load(options).train[0])
  assert [len(images) for images in parts] == [1438, 719, 719]
  assert not np.array_equal(parts[1], parts[2])

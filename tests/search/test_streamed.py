"""A search whose images stream takes the steps of one whose images lie on the device."""

import dataclasses

import jax
import numpy as np
import pytest
from conftest import external
from PIL import Image
from small_run import final_state, make_config, read_rows, stop_at_once

from beta_darts_jax import InputError
from beta_darts_jax.data import load, record
from beta_darts_jax.data.batching import alpha_order, batch_keys, distinct_indices
from beta_darts_jax.data.crops import ResizedCrops
from beta_darts_jax.data.lazy import as_lazy
from beta_darts_jax.data.sources import Residence
from beta_darts_jax.data.streaming import LevelExamples, level_batches
from beta_darts_jax.method.bilevel import make_step
from beta_darts_jax.runtime import session
from beta_darts_jax.runtime.workdir import Workdir
from beta_darts_jax.search import feeds, run as search_run
from beta_darts_jax.search.feeds import ResidentFeed, StreamedFeed
from beta_darts_jax.search.programs import make_initial_state, make_train
from beta_darts_jax.search.setup import make_search_setup


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A folder of 120 pictures of 8×8 pixels in three classes."""
  path = tmp_path_factory.mktemp('pictures')
  rng = np.random.default_rng(0)
  for k in range(120):
    (path / f'class{k % 3}').mkdir(exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path / f'class{k % 3}' / f'{k}.png')
  return f'folder:{path}'


def load_both(source, data_dir='', image_size=0):
  arguments = source, data_dir, image_size
  return load(*arguments), load(*arguments, residence=Residence('stream'))


def test_streamed_images_stay_on_the_disk_and_are_those_of_the_arrays(folder):
  resident, streamed = load_both(folder)
  assert streamed.streamed and not resident.streamed
  assert (streamed.mean, streamed.std, streamed.image_shape) == (resident.mean, resident.std, resident.image_shape)
  for fractions in ((1.0, 0.0), (0.5, 0.25)):
    for (arrays, labels), (images, streamed_labels) in zip(
      resident.search_splits(*fractions), streamed.search_splits(*fractions), strict=True
    ):
      np.testing.assert_array_equal(labels, streamed_labels)
      np.testing.assert_array_equal(arrays, images.read(np.arange(len(images))))


def test_alphas_order_is_what_the_steps_draw():
  drawn = [distinct_indices(batch_keys(np.uint32(7), np.int32(step))[0], 20, 4) for step in (3, 4)]
  np.testing.assert_array_equal(alpha_order(7, 3, 5, 20, 4), drawn)


def batches_of(folder, rows, workers=0, first=0, crops=None):
  """All batches from step `first` of two epochs' steps, as lists of arrays."""
  dataset = load(folder, residence=Residence('stream', crops=crops))
  indices = np.arange(2 * 4 * 6).reshape(2, 4, 6)[:, first:] % 40
  levels = tuple((as_lazy(images), labels) for images, labels in dataset.search_splits())
  examples = LevelExamples(levels, indices[..., rows], rows, first, seed=3)
  return [array for batch in level_batches(examples, workers) for array in batch]


CROPS = ResizedCrops(6, resize=8)


@pytest.mark.parametrize('crops', [None, CROPS])
def test_processes_share_the_batches_of_both_levels(crops, folder):
  whole, *parts = (batches_of(folder, rows, crops=crops) for rows in (np.arange(6), np.arange(3), np.arange(3, 6)))
  assert len(whole) == 2 * 2 * 4 and whole[0].shape == (6, *((6, 6) if crops else (8, 8)), 3)
  for batch, *shares in zip(whole, *parts, strict=True):
    np.testing.assert_array_equal(batch, np.concatenate(shares))


@pytest.mark.parametrize('workers', [0, pytest.param(2, marks=pytest.mark.full)])
def test_batches_depend_on_the_step_alone(workers, folder):
  whole = batches_of(folder, np.arange(6), crops=CROPS)
  for batch, later in zip(whole[8:], batches_of(folder, np.arange(6), workers, first=2, crops=CROPS), strict=True):
    np.testing.assert_array_equal(batch, later)


@pytest.mark.parametrize(
  'key, value, named',
  [
    ('population__seeds', 2, 'config.population: folder'),
    ('retrain__epochs', 1, 'config.retrain.epochs=1: expected 0'),
  ],
)
def test_what_a_streamed_search_cannot_do(key, value, named, folder):
  with pytest.raises(InputError, match=named):
    make_search_setup(make_config(**{key: value}), load_both(folder)[1])


@pytest.mark.full
@pytest.mark.parametrize('source', ['folder', 'records'])
def test_resident_and_streamed_searches_take_the_same_steps(source, folder, monkeypatch):
  """In float64, with augmentation on the device. The records are a tenth of the stand-in of ImageNet."""
  monkeypatch.setattr(feeds, 'AHEAD', 3)  # so the images of the second epoch are chosen separately
  fraction = 1.0 if source == 'folder' else 0.1
  config, ends = make_config(data__crop_padding=1, data__workers=0, data__fraction=fraction), []
  both = load_both(folder) if source == 'folder' else load_both('imagenet2012', external('TFDS_STANDINS_DIR'), 8)
  with jax.enable_x64(True):
    for dataset, feed_class in zip(both, (ResidentFeed, StreamedFeed), strict=True):
      setup = make_search_setup(config, dataset)
      feed = feed_class(setup, dataset)
      feed._steps = 2  # of a block: an epoch has three
      state = jax.jit(make_initial_state(setup))(np.uint32(0), np.zeros((1, 8, 8, 3), np.float32))
      states = jax.tree.map(lambda x: np.asarray(x, np.float64 if x.dtype.kind == 'f' else x.dtype)[None], state)
      hyper = setup.hyperparameters(setup.members[0], 1).replace(beta_decay_weight=5.0, alpha_learning_rate=0.1)
      hypers = jax.tree.map(lambda x: np.float64(x)[None], hyper)
      train = jax.jit(make_train(make_step(setup.supernet, setup.parts), setup, feed.take))
      for epoch in (0, 1):
        for until in (3 * epoch + 1, 3 * epoch + 3):
          for block in feed.blocks(states, epoch, until):
            states = train(states, block.orders, hypers, block.data, block.stop)
      ends.append(states)
  assert ends[0].step == 6 and ends[0].alphas['reduce'].dtype == np.float64
  assert np.abs(np.asarray(ends[0].alphas['reduce'])).max() > 0.1
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-12), *ends)


def run(config, dataset, path, workers=0):
  setup = dataclasses.replace(make_search_setup(config, dataset), workers=workers)
  with Workdir(path, config.to_dict(), data=record(dataset)) as workdir:
    return search_run.run(setup, dataset, None, workdir).values


@pytest.mark.full
def test_a_streamed_search_resumes_in_the_middle_of_an_epoch_with_other_workers(folder, tmp_path, monkeypatch):
  changes = {'data__crops': 'resized', 'data__crop_padding': 0, 'data__image_size': 8, 'search__steps_per_dispatch': 2}
  config = make_config(**changes)
  dataset = load(folder, residence=Residence('auto', crops=ResizedCrops(8, resize=8)))
  run(config, dataset, tmp_path / 'whole')
  with monkeypatch.context() as patch:
    patch.setattr(session, 'catch_stop_signals', stop_at_once)
    with pytest.raises(session.Stopped):
      run(config, dataset, tmp_path / 'stopped')
  assert final_state(tmp_path / 'stopped')['step'] == 2
  run(config, dataset, tmp_path / 'stopped', workers=2)
  jax.tree.map(np.testing.assert_array_equal, *(final_state(tmp_path / name) for name in ('whole', 'stopped')))
  (*_, whole), (*_, stopped) = (read_rows(tmp_path / name) for name in ('whole', 'stopped'))
  assert stopped == {**whole, **{name: stopped[name] for name in ('seconds', 'images_per_second')}}

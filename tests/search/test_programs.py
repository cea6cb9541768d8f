"""The compiled programs of a search."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_run import DATASET, make_config, random_images

from beta_darts_jax import SearchSpace, SearchState, Supernet, make_search_step, softmax_betas
from beta_darts_jax.data.batching import alpha_order, batch_keys, epoch_order
from beta_darts_jax.method.optimizers import Hyperparameters
from beta_darts_jax.runtime.devices import map_members
from beta_darts_jax.search.feeds import ResidentFeed, StreamedFeed
from beta_darts_jax.search.programs import SearchPrograms, make_initial_state, make_train
from beta_darts_jax.search.setup import make_search_setup


def test_train_moves_each_level_by_its_own_half():
  space = SearchSpace('small', 'darts', 1, ('skip_connect', 'sep_conv_3x3'))
  supernet = Supernet(space, num_classes=4, channels=2, layers=1)  # a reduction cell
  setup = make_search_setup(make_config(data__crop_padding=1), DATASET)
  setup = dataclasses.replace(setup, session=dataclasses.replace(setup.session, steps_per_epoch=4))
  train = jax.jit(make_train(make_search_step(supernet), setup))
  order = np.arange(64, dtype=np.int32).reshape(4, 16)
  alphas = space.init_alphas(jax.random.key(1))
  variables = jax.jit(supernet.init)(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32), softmax_betas(alphas))

  def state_after(stop, weights_half, alpha_half, alpha_learning_rate=0.0):
    hyper = jax.tree.map(np.float32, Hyperparameters(alpha_learning_rate=alpha_learning_rate))
    member = SearchState.create(variables, alphas), order, hyper
    states, orders, hypers = jax.tree.map(lambda x: np.asarray(x)[None], member)
    states = train(states, orders, hypers, (weights_half, alpha_half), np.int32(stop))
    return jax.tree.map(lambda x: x[0], states)

  def kernel(state):
    return np.asarray(state.params['network']['stem_conv']['kernel'])

  first, second, third = map(random_images, range(3))
  reference = state_after(2, first, second)
  assert int(reference.step) == 2
  np.testing.assert_array_equal(kernel(state_after(2, first, third)), kernel(reference))
  assert not np.array_equal(kernel(state_after(2, third, second)), kernel(reference))
  moved = [state_after(1, *halves, 0.1) for halves in ((first, second), (third, second), (first, third))]
  betas = [np.asarray(state.alphas['reduce']) for state in moved]
  np.testing.assert_array_equal(betas[0], betas[1])  # α of the first step does not depend on the weights' half
  assert not np.array_equal(betas[0], betas[2])


def test_each_level_has_the_images_and_the_random_key_of_its_step():
  """The augmentation returns a random number of its key. The label of an image is its row."""
  seed, setup = 7, make_search_setup(make_config(), DATASET)
  setup = dataclasses.replace(setup, augmentation=lambda key, images: jax.random.uniform(key))
  places = np.random.default_rng(1).uniform(size=16).astype(np.float32)  # the sum tells orders of rows apart

  def note_what_is_given(state, train, alpha, hyper):
    sums = {}
    for level, (number, rows) in (('train', train), ('alpha', alpha)):
      sums |= {f'{level}_loss': number, f'{level}_accuracy': rows @ places}
    return state.replace(step=state.step + 1, sums=state.sums | sums), None

  half = np.zeros((32, 8, 8, 3), np.uint8), np.arange(32)
  order = np.random.default_rng(0).permutation(32).reshape(2, 16)
  state = SearchState.create({'params': {}, 'batch_stats': {}}, {'cell': jnp.zeros((1, 2))}, seed=seed)
  member = jax.tree.map(lambda x: jnp.asarray(x)[None], (state, order, Hyperparameters()))
  train = jax.jit(make_train(note_what_is_given, setup))
  for step in (0, 1):
    sums = train(*member, (half, half), np.int32(step + 1)).sums
    _, *keys = batch_keys(np.uint32(seed), np.int32(step))
    (alpha_rows,) = alpha_order(seed, step, step + 1, 32, 16)
    for level, key, rows in (('train', keys[0], order[step]), ('alpha', keys[1], np.asarray(alpha_rows))):
      np.testing.assert_allclose(sums[f'{level}_loss'], [jax.random.uniform(key)], rtol=1e-6)
      np.testing.assert_allclose(sums[f'{level}_accuracy'], [rows @ places], rtol=1e-6)


def test_a_seed_has_weights_alphas_random_keys_and_orders_of_its_own():
  setup = make_search_setup(make_config(population__seeds=2), DATASET)
  initial = jax.jit(map_members(make_initial_state(setup), 'map'))
  states = initial(np.uint32([0, 1]), np.zeros((1, 8, 8, 3), np.float32))
  assert states.seed.tolist() == [0, 1]  # random keys are made from it
  for tree in (states.params, states.alphas):
    assert any(np.any(both[0] != both[1]) for both in jax.tree.leaves(tree))
  (block,) = ResidentFeed(setup, DATASET).blocks(None, epoch=3, until=0)
  for seed, order in enumerate(block.orders):
    np.testing.assert_array_equal(order, epoch_order(seed, 3, 32, 16))


def test_an_evaluation_on_few_images_of_a_folder_has_images_of_all_classes(monkeypatch):
  """The images of a folder are in the order of their classes. Of CIFAR the first images are evaluated."""
  monkeypatch.setattr(SearchPrograms, '_jit_on_demand', lambda *_: None)
  images, labels = random_images(0)
  setup = dataclasses.replace(make_search_setup(make_config(), DATASET), evaluation_images=12)

  def evaluated(in_order):
    dataset = dataclasses.replace(DATASET, train=(images, np.sort(labels)), in_order=in_order)
    programs = SearchPrograms(setup, dataset)
    evaluated = np.asarray(programs._evaluated[1])
    np.testing.assert_array_equal(programs._feed.sample(12)[1], evaluated)  # as DARTS-PT's images
    return evaluated

  assert set(evaluated(in_order=False)) == {0, 1, 2, 3}
  np.testing.assert_array_equal(evaluated(in_order=True), [2] * 12)


@pytest.mark.parametrize('feed', [ResidentFeed, StreamedFeed])
def test_the_eigenvalues_are_computed_on_images_of_all_classes(feed):
  images, labels = random_images(0)
  dataset = dataclasses.replace(DATASET, train=(images, np.sort(labels)), in_order=False)
  for _, drawn in feed(make_search_setup(make_config(), DATASET), dataset).fixed_batches():
    assert set(np.asarray(drawn).tolist()) == {0, 1, 2, 3}

"""A search finds a planted operation: only one candidate separates the classes.

An image has two channels, each with horizontal or vertical stripes: four classes. All images have the same numbers of
black and white pixels. A vertical stripe is the transpose of a horizontal one. none, skip_connect, avg_pool_3x3 and
nor_conv_1x1 commute with the transposition, and so do the 1×1 stems of the network; its global mean does not change
under the transposition. So only sep_conv_3x3 separates the classes. Each edge of the cell sees one of the channels,
so both edges need sep_conv_3x3.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import beta_darts_jax as bd
from beta_darts_jax import data
from beta_darts_jax.networks.initialization import Module
from beta_darts_jax.networks.layers import BatchNorm, Conv
from beta_darts_jax.networks.skeletons import classify
from beta_darts_jax.networks.supernet import SearchCell

OPERATIONS = ('none', 'skip_connect', 'avg_pool_3x3', 'nor_conv_1x1', 'sep_conv_3x3')
SPACE = bd.SearchSpace('planted', 'darts', nodes=1, operations=OPERATIONS)
CHANNELS, SIZE, STEPS, SEED = 4, 8, 120, 0


class PlantedSupernet(Module):
  """One 1×1 stem for each channel of the image → one normal cell → global mean → linear classifier."""

  space: bd.SearchSpace = SPACE

  @nn.compact
  def __call__(self, images, betas, train=False):
    inputs = [BatchNorm()(Conv(CHANNELS, 1)(images[..., k : k + 1]), train) for k in (0, 1)]
    return classify(SearchCell(self.space, 'normal', CHANNELS)(inputs, betas, train), num_classes=4)


SUPERNET = PlantedSupernet()
SEARCH_STEP = bd.make_search_step(SUPERNET)  # compiled once: λ is an argument


def striped_images(seed, count=256):
  """(images uint8 [N, H, W, 2], labels [N]). In each channel half of the pixels are permuted, so that it takes time."""
  rng = np.random.default_rng(seed)
  is_vertical = rng.integers(0, 2, (count, 2))
  stripes = (np.arange(SIZE) + rng.integers(0, 2, (count, 2, 1))) % 2
  horizontal = np.broadcast_to(stripes[..., None], (count, 2, SIZE, SIZE))
  channels = np.where(is_vertical[..., None, None], horizontal.swapaxes(2, 3), horizontal).reshape(2 * count, -1)
  for pixels in channels:
    chosen = rng.choice(SIZE * SIZE, SIZE * SIZE // 2, replace=False)
    pixels[chosen] = pixels[rng.permutation(chosen)]
  images = np.moveaxis(channels.reshape(count, 2, SIZE, SIZE), 1, -1)
  return (255 * images).astype(np.uint8), (is_vertical @ [2, 1]).astype(np.int32)


@functools.partial(jax.jit, static_argnums=0)
def initial_state(supernet, seed):
  key = jax.random.key(seed)
  alphas = supernet.space.init_alphas(key)
  images = jnp.zeros((1, SIZE, SIZE, 2))
  return bd.SearchState.create(supernet.init(key, images, bd.softmax_betas(alphas)), alphas, seed)


def search(supernet, step, beta_decay_weight=0.0, cost_weight=0.0):
  """Returns the last state of a search."""
  augmentation = data.Augmentation((0.5,) * 2, (0.5,) * 2, crop_padding=0, flip=False)
  weights_batches, alpha_batches = (
    data.batches(striped_images(half), 32, augmentation, jax.random.key(half)) for half in (0, 1)
  )
  state = initial_state(supernet, SEED)
  for i in range(STEPS):
    hyper = bd.Hyperparameters(
      learning_rate=0.1,
      weight_decay=1e-3,
      alpha_learning_rate=0.03,
      beta_decay_weight=beta_decay_weight * i / STEPS,  # linear from 0, as in β-DARTS
      regularizer_weights={'cost_weight': cost_weight},
    )
    hyper = jax.tree.map(np.float32, hyper)
    state, _ = step(state, next(weights_batches), next(alpha_batches), hyper)
  return state


@pytest.mark.parametrize('beta_decay_weight', [0.0, 1.0], ids=['darts', 'beta_darts'])
def test_search_step_finds_the_planted_operation(beta_decay_weight):
  """β of sep_conv_3x3 ends at 0.9 (DARTS) and at 0.4 (β-DARTS), of each other candidate below 0.05 and 0.17."""
  betas = bd.softmax_betas(search(SUPERNET, SEARCH_STEP, beta_decay_weight).alphas)
  assert SPACE.derive(betas).normal.operations == ('sep_conv_3x3', 'sep_conv_3x3')
  for edge in np.array(betas['normal']):
    assert edge[-1] > 1.5 * np.max(edge[:-1])


@pytest.fixture
def twins(monkeypatch):
  """Like the planted problem, but two candidates separate the classes: sep_conv_3x3 and its twin."""
  monkeypatch.setitem(bd.OPERATIONS, 'twin', bd.OPERATIONS['sep_conv_3x3'])
  return dataclasses.replace(SPACE, operations=(*OPERATIONS, 'twin'))


@pytest.mark.full
def test_the_cheap_one_of_two_equal_operations_wins(twins):
  """With λ < 0 the dear one wins, so the cost decides."""
  supernet = PlantedSupernet(twins)
  costs = {'normal': np.array([[1.0, 1.0, 1.0, 1.0, 1.0, 3.0]] * 2)}
  step = bd.make_search_step(supernet, regularizer=bd.cost(costs))
  winners = {
    weight: twins.derive(bd.softmax_betas(search(supernet, step, cost_weight=weight).alphas)).normal.operations
    for weight in (1.0, -1.0)
  }
  assert winners == {1.0: ('sep_conv_3x3',) * 2, -1.0: ('twin',) * 2}


def test_the_other_candidates_cannot_separate_an_image_from_its_transpose():
  images = np.float32(striped_images(seed=2, count=16)[0])
  variables = initial_state(SUPERNET, SEED).variables

  def logits(images, betas):
    return SUPERNET.apply(variables, images, {'normal': np.float32([betas, betas])})

  transposed = images.swapaxes(1, 2)
  without_planted = np.array([0.25, 0.25, 0.25, 0.25, 0.0])
  np.testing.assert_allclose(logits(images, without_planted), logits(transposed, without_planted), rtol=1e-4)
  with_planted = np.full(5, 0.2)
  assert np.ptp(logits(images, with_planted) - logits(transposed, with_planted)) > 0.1

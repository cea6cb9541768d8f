"""Balanced class weights: with the weights (2, 0), a half of class 0 gives the gradients of class 0 alone."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beta_darts_jax import Hyperparameters, SearchState, make_search_step
from beta_darts_jax.config import default, default_retrain
from beta_darts_jax.data import from_arrays
from beta_darts_jax.method.losses import cross_entropy
from beta_darts_jax.retrain.recipe import Recipe
from beta_darts_jax.retrain.setup import make_retrain_setup
from beta_darts_jax.retrain.step import create_state, make_train_step
from beta_darts_jax.search.setup import make_search_setup
from beta_darts_jax.spaces.published import PUBLISHED

IMAGES = np.random.default_rng(0).standard_normal((8, 2, 2, 3), np.float32)
LABELS = np.arange(8) % 2
FIRST = slice(None, None, 2)  # the images of class 0
ONLY_CLASS_0 = (2.0, 0.0)


class Linear:
  """Logits that are linear in the image and in β, in place of a supernet or a network."""

  def init(self, key, images):
    return {'params': {'w': jax.random.normal(key, (3, 2))}, 'batch_stats': {}}

  def apply(self, variables, images, betas=None, *, train, mutable=None, rngs=None):
    scale = 1 if betas is None else betas['cell'] @ jnp.array([1.0, 2.0])
    logits = scale * images.mean((1, 2)) @ variables['params']['w']
    return (logits, {'batch_stats': {}}) if mutable else logits


def test_cross_entropy_with_class_weights_by_hand():
  logits = jnp.log(jnp.array([[0.5, 0.5], [0.2, 0.8]]))
  expected = -(3 * np.log(0.5) + 0.5 * np.log(0.8)) / 2
  np.testing.assert_allclose(cross_entropy(logits, jnp.array([0, 1]), class_weights=(3.0, 0.5)), expected, rtol=1e-6)


def test_both_levels_of_a_search_step_weight_the_classes():
  hyper = jax.tree.map(np.float32, Hyperparameters(alpha_learning_rate=0.1))
  variables = Linear().init(jax.random.key(0), None)
  state = SearchState.create(variables, {'cell': jnp.array([0.1, 0.2])}, seed=0)
  whole, part = (IMAGES, LABELS), (IMAGES[FIRST], LABELS[FIRST])
  weighted, metrics = make_search_step(Linear(), (), class_weights=ONLY_CLASS_0)(state, whole, whole, hyper)
  alone, expected = make_search_step(Linear(), ())(state, part, part, hyper)
  chex.assert_trees_all_close((weighted.params, weighted.alphas), (alone.params, alone.alphas), rtol=1e-5)
  for name in ('train_loss', 'alpha_loss'):
    np.testing.assert_allclose(metrics[name], expected[name], rtol=1e-5)


def test_a_training_step_weights_the_classes():
  def after(images, labels, **weights):
    recipe = Recipe(epochs=1, batch_size=4, learning_rate=0.1, schedule='cosine_steps', **weights)
    state = create_state(Linear(), (2, 2, 3), recipe, np.uint32(0))
    return jax.jit(make_train_step(Linear(), recipe))(state, images, labels, 0.1, 0.0).params

  weighted = after(IMAGES, LABELS, class_weights=ONLY_CLASS_0)
  chex.assert_trees_all_close(weighted, after(IMAGES[FIRST], LABELS[FIRST]), rtol=1e-5)


# ---- from the config ----

BALANCED = {'data.class_weights': 'balanced', 'data.crop_padding': 1, 'data.cutout': 0}


def uneven():
  """30 training images of class 0 and 10 of class 1."""
  labels = np.arange(40) % 4 // 3
  images = np.zeros((40, 8, 8, 3), np.uint8)
  return from_arrays(images, labels, images[:2], labels[:2])


def test_balanced_classes_count_the_same():
  weights = uneven().class_weights('balanced')
  np.testing.assert_allclose(weights, (40 / (2 * 30), 40 / (2 * 10)))
  np.testing.assert_allclose(np.mean(np.take(weights, uneven().train[1])), 1)
  assert uneven().class_weights('none') == ()


@pytest.mark.parametrize('kind, expected', [('none', ()), ('balanced', (2 / 3, 2.0))])
def test_a_search_and_its_comparison_have_the_weights(kind, expected):
  config = default()
  config.update_from_flattened_dict(BALANCED | {'data.class_weights': kind})
  config.search.batch_size = config.retrain.batch_size = 8
  config.retrain.epochs = 1
  setup = make_search_setup(config, uneven())
  assert setup.parts.class_weights == setup.comparison.recipe.class_weights == pytest.approx(expected)


def test_a_retraining_has_the_weights():
  config = default_retrain()
  config.update_from_flattened_dict(BALANCED | {'network.auxiliary_weight': 0.0, 'train.batch_size': 8})
  genotype = PUBLISHED['DARTS_V2']
  assert make_retrain_setup(config, genotype, uneven()).recipe.class_weights == pytest.approx((2 / 3, 2.0))

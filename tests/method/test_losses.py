import jax.numpy as jnp
import numpy as np
import pytest

from beta_darts_jax.method.evaluation import make_evaluate
from beta_darts_jax.method.losses import accuracy, cross_entropy, top_1_and_top_5


def test_cross_entropy_and_accuracy_by_hand():
  logits = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
  np.testing.assert_allclose(cross_entropy(logits, jnp.array([0, 1])), -np.log(0.5 * 0.1) / 2, rtol=1e-6)
  assert accuracy(logits, jnp.array([0, 1])) == 0.5


def test_cross_entropy_with_label_smoothing_by_hand():
  """Targets 0.9 + 0.1/2 and 0.1/2."""
  logits = jnp.log(jnp.array([[0.75, 0.25]]))
  expected = -(0.95 * np.log(0.75) + 0.05 * np.log(0.25))
  np.testing.assert_allclose(cross_entropy(logits, jnp.array([0]), 0.1), expected, rtol=1e-6)


def test_top_1_and_top_5_by_hand():
  top_1, top_5 = top_1_and_top_5(jnp.tile(jnp.arange(7.0), (3, 1)), jnp.array([6, 2, 1]))
  assert top_1.tolist() == [True, False, False] and top_5.tolist() == [True, True, False]
  assert top_1_and_top_5(jnp.eye(2), jnp.array([1, 1]))[1].tolist() == [True, True]  # fewer than five classes


@pytest.mark.parametrize('batch_size', [3, 7, 10])
def test_evaluation_counts_every_image_once(batch_size):
  images = jnp.arange(7, dtype=jnp.uint8).reshape(7, 1, 1, 1)
  labels = jnp.array([0, 1, 2, 0, 0, 0, 0])
  logits = lambda scale, x: scale * jnp.eye(7)[x[:, 0, 0, 0].astype(int)]
  loss, top_1, top_5 = make_evaluate(logits, lambda x: x, batch_size)(2.0, images, labels)
  table = 2 * np.eye(7)
  expected = np.mean(np.log(np.exp(table).sum(1)) - table[np.arange(7), labels])
  np.testing.assert_allclose([loss, top_1], [expected, 3 / 7], rtol=1e-6)
  assert top_5 == 1

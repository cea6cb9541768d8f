"""The recipe's schedules, and one training step by hand."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beta_darts_jax.retrain.recipe import Recipe
from beta_darts_jax.retrain.step import create_state, make_train_step

CIFAR = Recipe(
  epochs=600, batch_size=96, learning_rate=0.025, schedule='cosine_epochs', clip_norm=5.0, drop_path_rate=0.2
)


def test_learning_rates_of_the_protocols():
  np.testing.assert_allclose(CIFAR.learning_rates(0, 3), 0.025, rtol=1e-6)
  np.testing.assert_allclose(CIFAR.learning_rates(300, 3), 0.0125, rtol=1e-5)
  imagenet = dataclasses.replace(CIFAR, epochs=250, learning_rate=0.5, schedule='linear_tail', warmup_epochs=5)
  expected = {0: 0.1, 4: 0.5, 5: 0.5 * 240 / 245, 244: 0.5 / 245, 245: 0.5 * 5 / 1225, 249: 0.5 / 1225}
  for epoch, rate in expected.items():
    np.testing.assert_allclose(imagenet.learning_rates(epoch, 2), rate, rtol=1e-5)
  benchmark = dataclasses.replace(CIFAR, epochs=2, learning_rate=0.1, schedule='cosine_steps')
  rates = np.concatenate([benchmark.learning_rates(epoch, 2) for epoch in (0, 1)])
  np.testing.assert_allclose(rates, 0.05 * (1 + np.cos(np.pi * np.arange(4) / 4)), rtol=1e-5)


def test_drop_path_rate_grows_linearly_from_0():
  assert [float(CIFAR.drop_path_rate_in(epoch)) for epoch in (0, 300)] == [0, pytest.approx(0.1)]


class TwoHeads(nn.Module):
  """Two heads on one number, and a running statistic without a use."""

  @nn.compact
  def __call__(self, images, rate=None, train=False):
    self.variable('batch_stats', 'unused', lambda: jnp.zeros(()))
    heads = [self.param(name, nn.initializers.zeros, (5,)) for name in ('main', 'auxiliary')]
    logits = [jnp.mean(images) * jnp.ones((len(images), 1)) * head for head in heads]
    return tuple(logits) if train else logits[0]


def test_train_step_with_two_heads_and_a_moving_average():
  """Logits of 0 have a loss of log 5 in each head. The average moves by a tenth of the step."""
  recipe = dataclasses.replace(CIFAR, ema_decay=0.9, momentum=0.0, clip_norm=0.0)
  state = create_state(TwoHeads(), (2, 2, 1), recipe, 0)
  step = jax.jit(make_train_step(TwoHeads(), recipe, auxiliary_weight=0.4))
  after = step(state, jnp.ones((2, 2, 2, 1)), jnp.array([0, 0]), 0.1, 0.0)
  np.testing.assert_allclose(after.sums['train_loss'], 1.4 * np.log(5), rtol=1e-6)
  gradient = np.full(5, 0.2) - np.eye(5)[0]
  np.testing.assert_allclose(after.params['main'], -0.1 * gradient, rtol=1e-6)
  np.testing.assert_allclose(after.params['auxiliary'], -0.4 * 0.1 * gradient, rtol=1e-6)
  np.testing.assert_allclose(after.average['params']['main'], 0.1 * after.params['main'], rtol=1e-6)
  assert after.average.keys() == {'params', 'batch_stats'}


def test_both_heads_have_smoothed_labels_and_class_weights():
  """Class 0 has the weight 3. The first step of Nesterov's momentum 0.9 is 1.9 times the gradient."""
  recipe = Recipe(
    epochs=1, batch_size=2, learning_rate=0.1, schedule='cosine_steps', nesterov=True, label_smoothing=0.1,
    class_weights=(3.0, 1.0, 1.0, 1.0, 1.0),
  )  # fmt: skip
  step = jax.jit(make_train_step(TwoHeads(), recipe, auxiliary_weight=0.4))
  state = create_state(TwoHeads(), (2, 2, 1), recipe, 0)
  after = step(state, jnp.ones((2, 2, 2, 1)), jnp.array([0, 0]), 0.1, 0.0)
  smoothed_label = 0.9 * np.eye(5)[0] + 0.1 / 5
  gradient = 3 * (np.full(5, 0.2) - smoothed_label)
  np.testing.assert_allclose(after.params['main'], -0.1 * 1.9 * gradient, rtol=1e-5)
  np.testing.assert_allclose(after.params['auxiliary'], -0.4 * 0.1 * 1.9 * gradient, rtol=1e-5)

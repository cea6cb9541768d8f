"""Training steps of a small DARTS network equal a restatement of them in plain JAX, in float64.

The restatement uses none of the package's modules. It has the stem, three cells (normal, reduction, reduction), the
auxiliary head, drop path, cross entropy, and SGD with clipping, coupled weight decay, momentum and a cosine schedule.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from jax import lax

from beta_darts_jax import Genotype, Network
from beta_darts_jax.retrain.recipe import Recipe
from beta_darts_jax.retrain.step import create_state, make_train_step

GENOTYPE = Genotype.parse(
  "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1)], normal_concat=[2], "
  "reduce=[('max_pool_3x3', 0), ('skip_connect', 1)], reduce_concat=[2])"
)
CHANNELS, CLASSES, BATCH = 4, 10, 6
EPOCHS, STEPS_PER_EPOCH, EPOCH = 4, 2, 3  # the two steps of the last epoch
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY, CLIP_NORM, DROP_PATH, AUXILIARY = 0.1, 0.9, 0.01, 1.0, 0.6, 0.4
SEED = 3


# ---- the restatement: variables are {path: array} ----


class Keys(nn.Module):
  """The keys that Flax gives to `count` calls of make_rng('draw') in the module with nested `names`."""

  names: tuple[str, ...]
  count: int

  @nn.compact
  def __call__(self):
    if self.names:
      return Keys(self.names[1:], self.count, name=self.names[0])()
    return [self.make_rng('draw') for _ in range(self.count)]


class Pass:
  """One pass in training mode; `statistics` collects the running statistics after it."""

  def __init__(self, params, statistics, draw_key, drop_path_rate):
    self.params, self.before, self.draw_key, self.rate = params, statistics, draw_key, drop_path_rate
    self.statistics = {}

  def conv(self, x, path, stride=1, padding=0, groups=1, dilation=1):
    return lax.conv_general_dilated(
      x,
      self.params[f'{path}/kernel'],
      (stride, stride),
      [(padding, padding)] * 2,
      rhs_dilation=(dilation, dilation),
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
      feature_group_count=groups,
    )

  def batch_norm(self, x, path):
    mean = x.mean((0, 1, 2))
    variance = ((x - mean) ** 2).mean((0, 1, 2))
    for name, value in (('mean', mean), ('var', variance)):
      self.statistics[f'{path}/{name}'] = 0.9 * self.before[f'{path}/{name}'] + 0.1 * value
    normalized = (x - mean) / jnp.sqrt(variance + 1e-5)
    return normalized * self.params[f'{path}/scale'] + self.params[f'{path}/bias']

  def linear(self, x, path):
    return x @ self.params[f'{path}/kernel'] + self.params[f'{path}/bias']

  def relu_conv_batch_norm(self, x, path):
    return self.batch_norm(self.conv(jax.nn.relu(x), f'{path}/conv'), f'{path}/batch_norm')

  def factorized_reduce(self, x, path):
    x = jax.nn.relu(x)
    halves = [self.conv(x, f'{path}/conv_1', 2), self.conv(x[:, 1:, 1:], f'{path}/conv_2', 2)]
    return self.batch_norm(jnp.concatenate(halves, axis=-1), f'{path}/batch_norm')

  def separable_conv(self, x, path):
    for i in (1, 2):
      x = self.conv(jax.nn.relu(x), f'{path}/depthwise_{i}', padding=1, groups=x.shape[-1])
      x = self.batch_norm(self.conv(x, f'{path}/pointwise_{i}'), f'{path}/batch_norm_{i}')
    return x

  def max_pool(self, x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0)))

  def drop_path(self, x, key):
    keep = jax.random.bernoulli(key, 1 - self.rate, (len(x), 1, 1, 1))
    return x * keep / (1 - self.rate).astype(x.dtype)

  def normal_cell(self, older, newer, path):
    """A separable convolution with drop path, plus the identity, which is never dropped."""
    older = self.relu_conv_batch_norm(older, f'{path}/preprocess0')
    newer = self.relu_conv_batch_norm(newer, f'{path}/preprocess1')
    (key,) = Keys((*path.split('/'), 'cell'), 1).apply({}, rngs={'draw': self.draw_key})
    return self.drop_path(self.separable_conv(older, f'{path}/cell/edge_2_0'), key) + newer

  def reduction_cell(self, older, newer, path, is_older_larger):
    """A max pool and a factorized reduction, both with drop path."""
    preprocess0 = self.factorized_reduce if is_older_larger else self.relu_conv_batch_norm
    older = preprocess0(older, f'{path}/preprocess0')
    newer = self.relu_conv_batch_norm(newer, f'{path}/preprocess1')
    keys = Keys((*path.split('/'), 'cell'), 2).apply({}, rngs={'draw': self.draw_key})
    reduced = self.factorized_reduce(newer, f'{path}/cell/edge_2_1/reduce')
    return self.drop_path(self.max_pool(older), keys[0]) + self.drop_path(reduced, keys[1])

  def auxiliary_logits(self, x, path):
    x = nn.avg_pool(jax.nn.relu(x), (5, 5), (3, 3))
    x = jax.nn.relu(self.batch_norm(self.conv(x, f'{path}/conv_1'), f'{path}/batch_norm_1'))
    x = jax.nn.relu(self.batch_norm(self.conv(x, f'{path}/conv_2'), f'{path}/batch_norm_2'))
    return self.linear(x.reshape(len(x), -1), f'{path}/classifier')

  def logits(self, images):
    """(logits, auxiliary logits)"""
    stem = self.batch_norm(self.conv(images, 'network/stem_conv', padding=1), 'network/stem_batch_norm')
    first = self.normal_cell(stem, stem, 'network/cells_0')
    second = self.reduction_cell(stem, first, 'network/cells_1', is_older_larger=False)
    third = self.reduction_cell(first, second, 'network/cells_2', is_older_larger=True)
    auxiliary = self.auxiliary_logits(third, 'network/auxiliary_head')
    return self.linear(third.mean((1, 2)), 'network/classifier'), auxiliary


def mean_cross_entropy(logits, labels):
  return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(len(labels)), labels])


@jax.jit
def restated_step(params, statistics, momenta, images, labels, number, learning_rate, drop_path_rate):
  """Returns (params, running statistics, momenta, loss, norm of the gradient) of step `number`."""
  draw_key = jax.random.fold_in(jax.random.fold_in(jax.random.key(SEED), 0x6472), number)

  def loss(params):
    network = Pass(params, statistics, draw_key, drop_path_rate)
    logits, auxiliary = network.logits(images)
    value = mean_cross_entropy(logits, labels) + AUXILIARY * mean_cross_entropy(auxiliary, labels)
    return value, network.statistics

  (value, new_statistics), gradient = jax.value_and_grad(loss, has_aux=True)(params)
  norm = jnp.sqrt(sum(jnp.sum(g**2) for g in gradient.values()))
  factor = jnp.minimum(1, CLIP_NORM / (norm + 1e-6))
  momenta = {path: MOMENTUM * momenta[path] + factor * gradient[path] + WEIGHT_DECAY * params[path] for path in params}
  params = {path: params[path] - learning_rate * momenta[path] for path in params}
  return params, new_statistics, momenta, value, norm


# ---- the test ----


def test_train_step_equals_a_restatement():
  recipe = Recipe(
    epochs=EPOCHS,
    batch_size=BATCH,
    learning_rate=LEARNING_RATE,
    schedule='cosine_steps',
    momentum=MOMENTUM,
    weight_decay=WEIGHT_DECAY,
    clip_norm=CLIP_NORM,
    drop_path_rate=DROP_PATH,
  )
  network = Network(GENOTYPE, CLASSES, channels=CHANNELS, layers=3, auxiliary=True)
  rng = np.random.default_rng(0)
  with jax.enable_x64(True):
    state = jax.jit(lambda: create_state(network, (32, 32, 3), recipe, SEED))()
    state = jax.tree.map(lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, state)
    params, statistics = (flatten_dict(tree, sep='/') for tree in (state.params, state.batch_stats))
    momenta = jax.tree.map(jnp.zeros_like, params)
    initial, losses = params, []
    train_step = jax.jit(make_train_step(network, recipe, auxiliary_weight=AUXILIARY))
    for number in range(STEPS_PER_EPOCH):
      images, labels = rng.normal(size=(BATCH, 32, 32, 3)), rng.integers(0, CLASSES, BATCH)
      rate = recipe.learning_rates(EPOCH, STEPS_PER_EPOCH)[number]
      drop_path_rate = recipe.drop_path_rate_in(EPOCH)
      state = train_step(state, images, labels, rate, drop_path_rate)

      progress = (EPOCH + number / STEPS_PER_EPOCH) / EPOCHS
      rate = np.float32(LEARNING_RATE * (1 + math.cos(math.pi * progress)) / 2)
      drop_path_rate = np.float32(DROP_PATH * EPOCH / EPOCHS)
      params, statistics, momenta, loss, norm = restated_step(
        params, statistics, momenta, images, labels, number, rate, drop_path_rate
      )
      losses.append(float(loss))
      assert norm > CLIP_NORM  # the gradient is clipped

    np.testing.assert_allclose(state.sums['train_loss'], sum(losses), rtol=1e-9)
    for ours, restated in ((state.params, params), (state.batch_stats, statistics)):
      ours = flatten_dict(ours, sep='/')
      assert ours.keys() == restated.keys()
      for path, value in ours.items():
        np.testing.assert_allclose(value, restated[path], rtol=1e-9, atol=1e-12, err_msg=path)
    assert all(np.any(initial[path] != params[path]) for path in initial)

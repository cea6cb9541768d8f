"""The forms that accelerators use, in whole steps on CPU: platform.FORCE_PLAIN selects them in every kernel."""

import chex
import jax
import jax.numpy as jnp
import pytest

from beta_darts_jax import (
  DARTS,
  NAS_BENCH_201,
  Hyperparameters,
  Network,
  SearchSpace,
  SearchState,
  Supernet,
  make_search_step,
  softmax_betas,
)
from beta_darts_jax.networks.kernels import platform
from beta_darts_jax.networks.kernels.convolution import convolution
from beta_darts_jax.networks.kernels.depthwise import depthwise
from beta_darts_jax.networks.kernels.platform import no_refusion
from beta_darts_jax.networks.kernels.pooling import average_pool, max_pool
from beta_darts_jax.networks.kernels.sums import channel_sums
from beta_darts_jax.networks.layers import BatchNorm, batch_normalize
from beta_darts_jax.retrain.recipe import Recipe
from beta_darts_jax.retrain.step import create_state, make_train_step
from beta_darts_jax.spaces.published import PUBLISHED

# every operation of the DARTS space, in one node, so that it compiles quickly
ONE_NODE = SearchSpace('one_node', 'darts', 1, DARTS.candidates('normal')[0])
SUPERNETS = {
  'nas_bench_201': Supernet(NAS_BENCH_201, num_classes=3, channels=2, cells_per_stage=1, unroll=True),
  'darts': Supernet(ONE_NODE, num_classes=3, channels=2, layers=2),
}


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield
  jax.clear_caches()  # no other test may get a program with the forced forms


def in_both_forms(step, monkeypatch, *arguments):
  """Returns the results of step(*arguments) in the CPU forms and in the accelerators', each traced on its own."""
  results = []
  for force_plain in (False, True):
    monkeypatch.setattr(platform, 'FORCE_PLAIN', force_plain)
    jax.clear_caches()
    results.append(jax.device_get(step(*arguments)))
  return results


def batch(seed):
  images = jax.random.normal(jax.random.key(seed), (4, 8, 8, 3), jnp.float64)
  return images, jnp.arange(4) % 3


def as_float64(tree):
  return jax.tree.map(lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


@pytest.mark.full
@pytest.mark.parametrize('supernet', SUPERNETS.values(), ids=SUPERNETS)
def test_a_bilevel_step_is_the_same_in_the_accelerators_forms(supernet, monkeypatch):
  alphas = as_float64(supernet.space.init_alphas(jax.random.key(0)))
  variables = jax.jit(supernet.init)(jax.random.key(1), batch(0)[0], softmax_betas(alphas))
  state = SearchState.create(as_float64(variables), alphas)
  hyper = Hyperparameters(learning_rate=0.1, beta_decay_weight=1.0)

  def step(state):
    state, metrics = make_search_step(supernet)(state, batch(2), batch(3), hyper)
    return state.params, state.batch_stats, state.alphas, metrics

  on_cpu, on_accelerators = in_both_forms(step, monkeypatch, state)
  chex.assert_trees_all_close(on_cpu, on_accelerators, rtol=1e-9, atol=1e-11)


@pytest.mark.full
def test_a_training_step_is_the_same_in_the_accelerators_forms(monkeypatch):
  network = Network(PUBLISHED['DARTS_V2'], num_classes=3, channels=2, layers=2)
  recipe = Recipe(epochs=1, batch_size=4, learning_rate=0.1, schedule='cosine_steps', weight_decay=3e-4, clip_norm=5.0)
  state = as_float64(jax.jit(lambda: create_state(network, (8, 8, 3), recipe, 0))())

  def step(state):
    state = jax.jit(make_train_step(network, recipe))(state, *batch(1), 0.1, 0.0)
    return state.params, state.batch_stats, state.sums

  on_cpu, on_accelerators = in_both_forms(step, monkeypatch, state)
  chex.assert_trees_all_close(on_cpu, on_accelerators, rtol=1e-9, atol=1e-11)


def test_batch_normalization_is_the_same_in_the_accelerators_forms(monkeypatch):
  x, shift = 3 + jax.random.normal(jax.random.key(0), (5, 4, 3, 2), jnp.float64), jnp.array([2.5, -1.0])

  def normalize(x, scale):
    return batch_normalize(x, scale, shift)[0]

  def values_and_gradients(x, scale):
    y, pull = jax.vjp(normalize, x, scale)
    return y, pull(jnp.cos(y))

  results = in_both_forms(values_and_gradients, monkeypatch, x, jnp.float64(2))
  chex.assert_trees_all_close(*results, rtol=1e-9, atol=1e-11)


def test_a_running_mean_that_is_not_finite_leaves_the_training_output_finite(monkeypatch):
  module, x = BatchNorm(affine=False), batch(0)[0]
  stats = {'mean': jnp.array([0.0, jnp.inf, jnp.nan]), 'var': jnp.ones(3)}

  def normalize(x):
    return module.apply({'batch_stats': stats}, x, True, mutable=['batch_stats'])[0]

  results = in_both_forms(normalize, monkeypatch, x)
  chex.assert_tree_all_finite(results)
  chex.assert_trees_all_close(*results, rtol=1e-9, atol=1e-11)


def test_force_plain_reaches_every_kernel(monkeypatch):
  """Under the flag, no program chooses its form by the platform."""
  monkeypatch.setattr(platform, 'FORCE_PLAIN', True)
  jax.clear_caches()
  x, kernel = jnp.zeros((1, 4, 4, 2)), jnp.zeros((3, 3, 1, 2))

  def everything(x, kernel):
    y = depthwise(x, kernel) + convolution(x, jnp.tile(kernel, (1, 1, 2, 1)), padding=(1, 1))
    y = no_refusion(average_pool(y) + max_pool(y), x[0, 0, 0, 0])
    y = batch_normalize(y, x[0, 0, 0, 0], x[0, 0, 0])[0]
    return jnp.sum(channel_sums(x[0, 0, 0, 0], y, function=lambda y: (y,)))

  assert 'platform_index' not in str(jax.make_jaxpr(jax.grad(everything, (0, 1)))(x, kernel))
  monkeypatch.setattr(platform, 'FORCE_PLAIN', False)
  jax.clear_caches()
  assert 'platform_index' in str(jax.make_jaxpr(jax.grad(everything, (0, 1)))(x, kernel))

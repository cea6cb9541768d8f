"""OLES: an operation stops when its gradients on training and validation images no longer agree."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax

from beta_darts_jax import Hyperparameters, SearchSpace, SearchState, Supernet, make_search_step, softmax_betas
from beta_darts_jax.method.oles import restart, stop_operations
from beta_darts_jax.method.optimizers import weight_sgd_oles


def test_an_operation_stops_below_the_threshold():
  """Two edges with the cosines 1 and 0.6, then 1 and −0.6: after a window of two the second one, with mean 0, stops."""
  kernel = jnp.ones((2, 1, 1, 1, 2))
  params = {'stem': jnp.ones(3), 'edges_0': {'conv': {'kernel': kernel}}}
  optimizer = stop_operations(optax.sgd(0.1), window=2)

  def gradient(second):
    return {'stem': jnp.ones(3), 'edges_0': {'conv': {'kernel': jnp.array([[1.0, 0.0], second]).reshape(kernel.shape)}}}

  state, moves = optimizer.init(params), []
  for cosine in (0.6, -0.6, 1.0):
    valid = gradient([cosine, np.sqrt(1 - cosine**2)])
    update, state = optimizer.update(gradient([1.0, 0.0]), state, params, valid_gradient=lambda valid=valid: valid)
    moves.append([float(update['stem'][0]), *update['edges_0']['conv']['kernel'][..., 0].ravel().tolist()])
  np.testing.assert_allclose(moves, [[-0.1, -0.1, -0.1], [-0.1, -0.1, 0.0], [-0.1, -0.1, 0.0]], rtol=1e-5)
  assert state.stopped['edges_0.conv'].tolist() == [False, True] and int(state.steps) == 1
  np.testing.assert_allclose(state.cosines['edges_0.conv'], [1.0, 1.0], rtol=1e-5)
  again = restart(optimizer.init, state, params)  # before the decisions of DARTS-PT
  assert again.stopped is state.stopped and not int(again.steps) and not np.any(again.cosines['edges_0.conv'])


def test_the_window_and_the_threshold_of_the_paper():
  defaults = inspect.signature(stop_operations).parameters
  assert defaults['window'].default == 20 and defaults['threshold'].default == 0.4


def test_a_search_step_gives_oles_the_gradient_of_the_validation_batch():
  """Equal batches: all cosines are 1. The validation batch is another one: they are not."""
  space = SearchSpace('small', 'nas_bench_201', 2, ('skip_connect', 'nor_conv_1x1'))
  supernet, rng = Supernet(space, num_classes=4, channels=2, cells_per_stage=1), np.random.default_rng(0)
  batches = [(rng.standard_normal((8, 8, 8, 3), np.float32), np.arange(8) % 4) for _ in range(2)]
  alphas = {'cell': jnp.zeros(space.alpha_shape)}
  variables = jax.jit(supernet.init)(jax.random.key(0), batches[0][0], softmax_betas(alphas))
  state = SearchState.create(variables, alphas, weight_optimizer=weight_sgd_oles)
  step = make_search_step(supernet, (), weight_optimizer='weight_sgd_oles')
  hyper = Hyperparameters(alpha_learning_rate=0.0)
  same, other = (step(state, batches[0], valid, hyper)[0].weight_optimizer_state.cosines for valid in batches)
  assert {name: cosines.shape for name, cosines in same.items()} == {
    f'network.stage{stage}.edges_0.nor_conv_1x1': (1, 3) for stage in (1, 2, 3)
  }
  for name in same:
    np.testing.assert_allclose(same[name], 1, rtol=1e-4)
    assert np.all(np.abs(other[name]) < 0.999)

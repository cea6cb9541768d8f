"""The parts of a bilevel step are exchangeable: as functions, as objects, by name; mistakes give one clear error."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from linear_supernet import LinearSupernet

from beta_darts_jax import (
  OPTIMIZERS,
  REGULARIZERS,
  RELAXATIONS,
  Hyperparameters,
  InputError,
  Regularizer,
  Relaxation,
  Sampling,
  SearchState,
  beta_decay,
  make_search_step,
  softmax_betas,
)
from beta_darts_jax.method.hypergradients import implicit, second_order
from beta_darts_jax.method.optimizers import alpha_adam, weight_sgd
from beta_darts_jax.method.parts import resolve_parts

DEFAULTS = {
  'regularizer': beta_decay,
  'hypergradient': 'first_order',
  'relaxation': Relaxation(),
  'weight_optimizer': weight_sgd,
  'alpha_optimizer': alpha_adam,
}
BATCH = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3), np.array([0, 1, 0, 1])


def begin(**optimizers):
  variables = {'params': {'w': jnp.linspace(-0.5, 0.5, 6).reshape(3, 2)}, 'batch_stats': {}}
  return SearchState.create(variables, {'cell': jnp.array([[0.3, -0.1]])}, **optimizers)


def take_steps(state, steps=3, hyper=None, **parts):
  step = make_search_step(LinearSupernet(), **parts)
  hyper = hyper or Hyperparameters(alpha_learning_rate=0.1, beta_decay_weight=1.0)
  for _ in range(steps):
    state, _ = step(state, BATCH, BATCH, hyper)
  return state


@pytest.mark.parametrize(
  'parts',
  [
    {'regularizer': 'beta_decay'},
    {'regularizer': REGULARIZERS['beta_decay']},
    {'regularizer': ['beta_decay']},
    {'regularizer': [beta_decay]},
    {'hypergradient': 'first_order'},
    {'relaxation': 'softmax'},
    {'relaxation': RELAXATIONS['softmax']},
    {'relaxation': lambda alphas, key, hyper: softmax_betas(alphas)},
    {'weight_optimizer': 'weight_sgd', 'alpha_optimizer': OPTIMIZERS['alpha_adam']},
  ],
  ids=lambda parts: ', '.join(parts),
)
def test_name_object_and_function_are_the_same_step(parts):
  chex.assert_trees_all_equal(take_steps(begin(), **parts), take_steps(begin()))


def test_plain_sgd_for_both_levels_against_a_restatement():
  """Own optimizers without state: w and α move by −rate·gradient."""

  def plain_sgd(hyper):
    return optax.sgd(hyper.learning_rate)

  optimizers = {'weight_optimizer': plain_sgd, 'alpha_optimizer': plain_sgd}
  hyper = Hyperparameters(learning_rate=0.2)
  state = take_steps(begin(**optimizers), steps=1, hyper=hyper, regularizer=(), **optimizers)

  def loss(w, alpha):
    logits = (BATCH[0] @ w) * jax.nn.softmax(alpha)[0]
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, BATCH[1]))

  w, alpha = begin().params['w'], begin().alphas['cell']
  alpha = alpha - 0.2 * jax.grad(loss, argnums=1)(w, alpha)
  w = w - 0.2 * jax.grad(loss)(w, alpha)
  np.testing.assert_allclose(state.alphas['cell'], alpha, rtol=1e-6)
  np.testing.assert_allclose(state.params['w'], w, rtol=1e-6)


def test_nothing_moves_alpha_at_rate_zero():
  def restless(hyper):
    return optax.sgd(1.0)

  optimizers = {'alpha_optimizer': restless}
  hyper = Hyperparameters(alpha_learning_rate=0.0, beta_decay_weight=1.0)
  state = take_steps(begin(**optimizers), hyper=hyper, **optimizers)
  chex.assert_trees_all_equal(state.alphas, begin().alphas)


def test_weight_of_its_own_name_scales_the_force():
  """α after one decoupled step from zero gradient: −η·λ·sign(α). λ = 0 is the baseline."""
  lasso = Regularizer(lambda alphas, context: jax.tree.map(jnp.sign, alphas), 'lasso_weight', mode='decoupled')
  ends = {}
  for weight in (0.0, 2.0):
    hyper = Hyperparameters(alpha_learning_rate=0.1, regularizer_weights={'lasso_weight': weight})
    ends[weight] = take_steps(begin(), steps=1, hyper=hyper, regularizer=lasso).alphas['cell']
  np.testing.assert_allclose(ends[2.0] - ends[0.0], [[-0.2, 0.2]], rtol=1e-5)
  without = take_steps(begin(), 1, Hyperparameters(alpha_learning_rate=0.1), regularizer=()).alphas['cell']
  np.testing.assert_allclose(ends[0.0], without, atol=1e-6)


def test_a_function_has_the_weight_of_its_name():
  """A bare function `squares` is weighted by squares_weight, never by Beta-Decay's λ."""

  def squares(alphas):
    return jnp.sum(alphas['cell'] ** 2) / 2

  (regularizer,) = resolve_parts(**DEFAULTS | {'regularizer': squares}).regularizers
  assert regularizer.weight == 'squares_weight'
  (regularizer,) = resolve_parts(**DEFAULTS).regularizers
  assert regularizer.weight == 'beta_decay_weight'
  with pytest.raises(InputError, match='from_penalty'):
    resolve_parts(**DEFAULTS | {'regularizer': lambda alphas: 0.0})


def test_own_relaxation_with_its_own_mean():
  """β = α² normalized: the mean that cells are derived from is the given one, not softmax."""

  def squares(alphas, key=None, hyper=None):
    return jax.tree.map(lambda a: a**2 / jnp.sum(a**2, axis=-1, keepdims=True), alphas)

  relaxation = Relaxation(sampling=Sampling(squares, mean=squares))
  mean = relaxation.mean((begin().alphas, {}))['cell']
  np.testing.assert_allclose(mean, [[0.9, 0.1]], rtol=1e-6)
  chex.assert_tree_all_finite(take_steps(begin(), relaxation=relaxation))
  np.testing.assert_allclose(Relaxation(sampling=squares).mean((begin().alphas, {}))['cell'],
                             softmax_betas(begin().alphas)['cell'])  # fmt: skip


@pytest.mark.parametrize(
  'mistake, names',
  [
    ({'regularizer': 'beta_decai'}, 'beta_decay'),
    ({'regularizer': 3.0}, 'beta_decay'),
    ({'regularizer': [None]}, 'beta_decay'),
    ({'hypergradient': 'third_order'}, 'second_order'),
    ({'relaxation': 'softmaks'}, 'gumbel'),
    ({'relaxation': 7}, 'Sampling'),
    ({'weight_optimizer': 'sgd'}, 'weight_sgd'),
    ({'alpha_optimizer': None}, 'alpha_adam'),
    ({'weight_optimizer': 'alpha_adam'}, 'weight_sgd'),
    ({'weight_optimizer': 'alpha_adam_two_paths'}, 'weight_sgd'),
    ({'weight_optimizer': 'weight_sgd_oles', 'relaxation': 'gumbel'}, 'gumbel'),
    ({'weight_optimizer': 'weight_sgd_oles', 'flooding': True}, 'no flooding'),
    ({'alpha_optimizer': 'weight_sgd'}, 'alpha_adam'),
    ({'hypergradient': second_order, 'weight_optimizer': lambda hyper: optax.adam(0.1)}, 'weight_sgd'),
  ],
  ids=lambda value: str(value)[:40],
)
def test_mistake_is_one_error_when_the_step_is_built(mistake, names):
  with pytest.raises(InputError, match=names):
    make_search_step(LinearSupernet(), **mistake)


def test_implicit_hypergradient_allows_any_weight_optimizer():
  hypergradient = functools.partial(implicit, terms=2)
  parts = DEFAULTS | {'hypergradient': hypergradient, 'weight_optimizer': lambda hyper: optax.adam(0.1)}
  assert resolve_parts(**parts).hypergradient is hypergradient


def test_objects_refuse_what_is_no_function():
  with pytest.raises(InputError, match='adversarial'):
    Relaxation(perturbation=3)
  with pytest.raises(InputError, match='force=3'):
    Regularizer(3, 'own_weight')

"""Regularizers on α alone: each F in closed form, and what the family does to β."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from beta_darts_jax import REGULARIZERS, Hyperparameters, InputError, beta_decay, softmax_betas
from beta_darts_jax.method.diagnostics import beta_change_ratio
from beta_darts_jax.method.optimizers import alpha_adam
from beta_darts_jax.method.regularizers import (
  SCHEDULES,
  RegularizerContext,
  WeightContext,
  alignment,
  cost,
  dirichlet_kl,
  flooded,
  from_penalty,
  lambda_darts,
  sum_forces,
)

ALPHAS = {'cell': jax.random.normal(jax.random.key(0), (6, 5))}
NOTHING = RegularizerContext(epoch=0.0, gradient=None)


def test_gradient_of_beta_decay_is_softmax_over_edges():
  gradient = jax.grad(beta_decay)(ALPHAS)['cell']
  np.testing.assert_allclose(gradient, jax.nn.softmax(ALPHAS['cell'], -1) / 6, rtol=1e-5)


def test_beta_decay_of_shifted_logits():
  shifted = {'cell': ALPHAS['cell'] + 3}
  np.testing.assert_allclose(beta_decay(shifted) - beta_decay(ALPHAS), 3, rtol=1e-5)


def test_beta_decay_adds_cell_types():
  both = {'normal': ALPHAS['cell'], 'reduce': ALPHAS['cell'] + 1}
  np.testing.assert_allclose(beta_decay(both), 2 * beta_decay(ALPHAS) + 1, rtol=1e-5)


def test_a_constant_weight_stays_and_linear_to_last_is_0_in_a_single_epoch():
  assert [SCHEDULES['constant'](50.0, epoch, 100) for epoch in (0, 99)] == [50.0, 50.0]
  assert SCHEDULES['linear_to_last'](50.0, 0, 1) == 0.0


BETAS = softmax_betas(ALPHAS)['cell']
SIGMOIDS = 1 / (1 + np.exp(-np.asarray(ALPHAS['cell'])))
CLOSED_FORMS = {  # name → (F(α), field of λ, mode)
  'beta_decay': (BETAS / 6, 'beta_decay_weight', 'coupled'),
  'decoupled_beta_decay': (BETAS / 6, 'beta_decay_weight', 'decoupled'),
  'l2': (ALPHAS['cell'], 'l2_weight', 'coupled'),
  'weight_decay': (ALPHAS['cell'], 'l2_weight', 'decoupled'),
  'zero_one': (-2 / 30 * (SIGMOIDS - 0.5) * SIGMOIDS * (1 - SIGMOIDS), 'zero_one_weight', 'coupled'),
}


@pytest.mark.parametrize('name', CLOSED_FORMS)
def test_regularizer_has_its_closed_form(name):
  expected, weight, mode = CLOSED_FORMS[name]
  hyper = Hyperparameters(**{weight: 3.0})
  sums = sum_forces([REGULARIZERS[name]], ALPHAS, NOTHING, hyper)
  assert list(sums) == [mode]
  np.testing.assert_allclose(sums[mode]['cell'], 3 * expected, rtol=1e-5)


def test_only_normal_cells_are_aligned():
  """Λ is the cosine of w and (1, 0): ∂Λ/∂w = (1, 0)/‖w‖ − w·w₁/‖w‖³. The reduction cells would cancel it."""
  first = jnp.array([1.0, 0.0])

  def cell_gradients(w):
    return {'normal': jnp.stack([w, first])[:, None], 'reduce': jnp.stack([w, -first])[:, None]}

  rest = dict.fromkeys(('epoch', 'batch', 'betas', 'gradient', 'loss', 'gradient_at'))
  force = lambda_darts(jnp.array([3.0, 4.0]), WeightContext(cell_gradients=cell_gradients, **rest))
  np.testing.assert_allclose(force, [-0.128, 0.096], rtol=1e-5)


COSTS = {'cell': np.array([[0.0, 6.0], [2.0, 1.0]])}  # at most 8; 4.5 at α = 0
CHOICE = {'cell': jnp.zeros((2, 2))}


@pytest.mark.parametrize('target, divisor', [(0.0, 8), (3.0, 3), (4.5, np.inf), (6.0, np.inf)])
def test_force_of_the_cost_is_beta_times_the_excess_above_the_mean_of_the_edge(target, divisor):
  """Of an edge with costs c and mean E: β·(c − E), divided by the largest cost or by the target, 0 below the target."""
  force = cost(COSTS, target).force(CHOICE, NOTHING)['cell']
  np.testing.assert_allclose(force, np.array([[-1.5, 1.5], [0.25, -0.25]]) / divisor, rtol=1e-6)


def test_mistakes_of_the_cost_are_named():
  with pytest.raises(InputError, match='target=8: expected 0, or less than 8'):
    cost(COSTS, 8.0)
  with pytest.raises(InputError, match='every operation costs 0'):
    cost({'cell': np.zeros((1, 2))})
  with pytest.raises(InputError, match='expected bd'):
    REGULARIZERS['cost'].force(CHOICE, NOTHING)


def test_forces_add_up():
  hyper = Hyperparameters(beta_decay_weight=2.0, l2_weight=0.5)
  names = 'beta_decay', 'decoupled_beta_decay', 'l2', 'weight_decay'
  sums = sum_forces([REGULARIZERS[name] for name in names], ALPHAS, NOTHING, hyper)
  for mode in ('coupled', 'decoupled'):
    np.testing.assert_allclose(sums[mode]['cell'], 2 * BETAS / 6 + 0.5 * ALPHAS['cell'], rtol=1e-5)
  assert sum_forces([], ALPHAS, NOTHING, hyper) == {}


def test_coupled_l2_is_the_optimizers_own_decay():
  """λ·α in the loss and alpha_weight_decay = λ are one thing, over three steps of Adam."""
  ends = []
  for weight, decay in ((0.1, 0.0), (0.0, 0.1)):
    hyper = Hyperparameters(alpha_learning_rate=0.1, alpha_weight_decay=decay, l2_weight=weight)
    alphas, state = ALPHAS, alpha_adam(hyper).init(ALPHAS)
    for i in range(3):
      coupled = sum_forces([REGULARIZERS['l2']], alphas, NOTHING, hyper)['coupled']
      gradient = {'cell': coupled['cell'] + jnp.sin(i + jnp.arange(30.0)).reshape(6, 5)}
      updates, state = alpha_adam(hyper).update(gradient, state, alphas)
      alphas = optax.apply_updates(alphas, updates)
    ends.append(alphas['cell'])
  np.testing.assert_allclose(*ends, rtol=1e-5)


def test_from_penalty_uses_a_weight_of_its_own_name():
  cubic = from_penalty(lambda alphas: jnp.sum(alphas['cell'] ** 3), 'cubic_weight', mode='decoupled')
  hyper = Hyperparameters(regularizer_weights={'cubic_weight': 2.0})
  force = sum_forces([cubic], ALPHAS, NOTHING, hyper)['decoupled']
  np.testing.assert_allclose(force['cell'], 6 * ALPHAS['cell'] ** 2, rtol=1e-5)
  with pytest.raises(InputError, match='cubic_weight'):
    sum_forces([cubic], ALPHAS, NOTHING, Hyperparameters())


def test_alignment_is_mean_cosine_of_pairs():
  right, up = np.array([[1.0, 0.0]]), np.array([[0.0, 2.0]])
  cells = jnp.array([right, up, right + up / 2])  # cosines 0, 1/√2, 1/√2
  np.testing.assert_allclose(alignment({'cell': cells}), np.sqrt(2) / 3, rtol=1e-6)
  np.testing.assert_allclose(alignment({'normal': cells, 'reduce': cells[:1]}), np.sqrt(2) / 3, rtol=1e-6)
  np.testing.assert_allclose(alignment({'cell': 7 * cells[:1].repeat(2, 0)}), 1, rtol=1e-6)


def test_alignment_with_a_zero_gradient_is_zero():
  cells = jnp.array([[[1.0, 0.0]], [[0.0, 0.0]]])
  value, gradient = jax.value_and_grad(alignment)({'cell': cells})
  assert value == 0 and np.all(np.isfinite(gradient['cell']))


def test_the_anchor_of_drnas_is_zero_at_uniform_concentrations():
  """At α = 0 all c are 1. For two operations with c = (2, 1) the divergence is log 2 − ½."""
  assert abs(float(dirichlet_kl({'cell': jnp.zeros((3, 4))}))) < 1e-5
  np.testing.assert_allclose(dirichlet_kl({'cell': jnp.array([[1.0, 0.0]])}), np.log(2) - 0.5, rtol=1e-5)


def test_flooding_by_hand():
  loss = jnp.array([0.1, 0.3, 2.0])
  np.testing.assert_allclose(flooded(loss, 0.3), [0.5, 0.3, 2.0], rtol=1e-6)
  np.testing.assert_allclose(jax.vmap(jax.grad(flooded), (0, None))(loss, 0.2), [-1, 1, 1])
  np.testing.assert_array_equal(flooded(loss, 0.0), loss)


# ---- why it works: θ ----


@pytest.mark.parametrize('decay', [ALPHAS['cell'], BETAS, jnp.sign(ALPHAS['cell'])], ids=['weight', 'beta', 'sign'])
def test_theta_is_the_quotient_of_the_betas(decay):
  """softmax(α − ηλF)/softmax(α), and below 1 exactly where e^(−ηλF_k) is below its β-weighted mean."""
  found = beta_change_ratio(ALPHAS, {'cell': 0.3 * decay})['cell']
  np.testing.assert_allclose(found, jax.nn.softmax(ALPHAS['cell'] - 0.3 * decay) / BETAS, rtol=1e-5)
  shrinks = np.exp(-0.3 * decay) < (BETAS * np.exp(-0.3 * decay)).sum(-1, keepdims=True)
  np.testing.assert_array_equal(found < 1, shrinks)


def test_beta_decay_pulls_betas_together_and_keeps_their_order():
  moved = softmax_betas({'cell': ALPHAS['cell'] - 0.5 * BETAS})['cell']
  assert np.all(np.var(moved, -1) < np.var(BETAS, -1))
  np.testing.assert_array_equal(np.argsort(moved, -1), np.argsort(BETAS, -1))


def test_coupled_adam_hides_the_decay():
  """Beta-Decay alone, λ 0 → 50 in 2,000 steps: gradient descent flattens α, inside Adam most of its spread stays."""
  steps, rate = 2000, 3e-4 * 39_100 / 2000
  hyper = Hyperparameters(alpha_learning_rate=rate, alpha_b2=1 - 39.1 / steps, alpha_weight_decay=0.0)

  def spread_after(move):
    def step(i, carry):
      alphas, state = carry
      force = jax.tree.map(lambda f: 50 * i / steps * f, REGULARIZERS['beta_decay'].force(alphas, NOTHING))
      return move(alphas, state, force)

    end, _ = jax.lax.fori_loop(0, steps, step, (ALPHAS, alpha_adam(hyper).init(ALPHAS)))
    return float(jnp.std(end['cell'] - end['cell'].mean(-1, keepdims=True)))

  def adam(alphas, state, force):
    updates, state = alpha_adam(hyper).update(force, state, alphas)
    return optax.apply_updates(alphas, updates), state

  descent = lambda alphas, state, force: (jax.tree.map(lambda a, f: a - rate * f, alphas, force), state)
  before = float(jnp.std(ALPHAS['cell'] - ALPHAS['cell'].mean(-1, keepdims=True)))
  assert spread_after(adam) > 0.5 * before > 0.05 * before > spread_after(descent)

"""Each hypergradient against the official network's, against numerical differences, and against closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import golden, nhwc, relative_difference

from beta_darts_jax import NAS_BENCH_201, Hyperparameters, SearchState, Supernet, make_search_step, softmax_betas
from beta_darts_jax.method.hypergradients import Problem, finite_difference, first_order, implicit, second_order
from beta_darts_jax.method.losses import make_loss
from beta_darts_jax.method.optimizers import unclipped_step, weight_sgd
from beta_darts_jax.method.regularizers import flooded

SUPERNET = Supernet(NAS_BENCH_201, num_classes=10, channels=4, cells_per_stage=1)


@pytest.fixture(scope='module')
def official():
  """(arrays of the golden file, α, `problem(alphas, momentum)` of its batches, w after a step), in float64."""
  with jax.enable_x64(True):
    arrays, variables = golden('nas_bench_201_second_order', np.float64)
    alphas, variables = variables('before/')
    loss, key = make_loss(SUPERNET), jax.random.key(0)
    hyper = Hyperparameters(learning_rate=float(arrays['xi']), weight_decay=float(arrays['weight_decay']))
    batches = {half: (nhwc(arrays[f'x{half}']).astype(np.float64), arrays[f'y{half}']) for half in ('', '_valid')}

    def problem(params, alphas, momentum):
      def valid_loss(params, alphas):
        return loss(params, softmax_betas(alphas), variables['batch_stats'], batches['_valid'], key)

      def train_loss(params, alphas):
        return loss(params, softmax_betas(alphas), variables['batch_stats'], batches[''], key)[0]

      optimizer_state = optax.tree.set(weight_sgd(hyper).init(params), trace=momentum)
      return Problem(
        train_loss=train_loss,
        step_loss=train_loss,
        valid_loss=valid_loss,
        params=params,
        architecture=alphas,
        sgd_step=unclipped_step(weight_sgd, hyper, optimizer_state),
        learning_rate=hyper.learning_rate,
        weight_decay=hyper.weight_decay,
      )

    rng = np.random.default_rng(0)
    params = variables['params']
    yield arrays, alphas, params, problem, jax.tree.map(lambda w: 0.1 * rng.standard_normal(w.shape), params)


@pytest.fixture(scope='module')
def gradient(official):
  """A function: (hypergradient, its distance, whether the momentum is not zero) → the gradient of α."""
  _, alphas, params, problem, momentum = official

  @functools.partial(jax.jit, static_argnums=0)
  def of_alpha(method, params, alphas, momentum, *distance):
    return method(problem(params, alphas, momentum), *distance)[1]['cell']

  def compute(method, *distance, moving=False):
    with jax.enable_x64(True):
      buffer = momentum if moving else jax.tree.map(np.zeros_like, momentum)
      return jax.device_get(of_alpha(method, params, alphas, buffer, *distance))

  return compute


@pytest.mark.parametrize('method', [first_order, pytest.param(second_order, marks=pytest.mark.full)])
def test_the_gradient_of_the_official_network(official, gradient, method):
  assert relative_difference(gradient(method), official[0][f'alpha_grad_{method.__name__}']) < 1e-5


@pytest.mark.full
def test_momentum_against_numerical_differences(official, gradient):
  """L_valid(w′(α), α) at α ± 1e-7 (few ReLUs change side), w′ one step of SGD with a momentum buffer."""
  _, alphas, params, problem, momentum = official
  with jax.enable_x64(True):

    @jax.jit
    def objective(alphas):
      there = problem(params, alphas, momentum)
      gradient = jax.grad(there.train_loss)(params, alphas)
      return there.valid_loss(there.sgd_step(params, gradient), alphas)[0]

    moving = gradient(second_order, moving=True)
    for seed in range(3):
      direction = np.random.default_rng(seed).standard_normal((6, 5))
      at = lambda sign, d=direction: objective({'cell': alphas['cell'] + sign * 1e-7 * d})
      slope = (at(1) - at(-1)) / 2e-7
      np.testing.assert_allclose(np.vdot(moving, direction), slope, rtol=1e-6)
  assert relative_difference(moving, gradient(second_order)) > 1e-3


@pytest.mark.full
def test_the_search_step_takes_the_second_order_gradient(official, gradient):
  """make_search_step on the golden batches, with momentum: Adam's first moment is (1 − b1) times the gradient."""
  arrays, alphas, _, _, momentum = official
  with jax.enable_x64(True):
    _, variables = golden('nas_bench_201_second_order', np.float64)[1]('before/')
    state = SearchState.create(jax.tree.map(jnp.asarray, variables), alphas)
    state = state.replace(weight_optimizer_state=optax.tree.set(state.weight_optimizer_state, trace=momentum))
    batch = lambda half: (nhwc(arrays[f'x{half}']).astype(np.float64), arrays[f'y{half}'])
    hyper = Hyperparameters(float(arrays['xi']), weight_decay=float(arrays['weight_decay']), alpha_weight_decay=0.0)
    step = make_search_step(SUPERNET, (), second_order)
    state, _ = step(state, batch(''), batch('_valid'), hyper)
    (moment, _) = optax.tree.get(state.alpha_optimizer_state, 'mu')
  np.testing.assert_allclose(moment['cell'] / 0.5, gradient(second_order, moving=True), rtol=1e-9, atol=1e-12)


@pytest.mark.full
def test_finite_differences_approach_the_second_order_gradient(gradient):
  """Once no ReLU changes side between w ± ε·v they agree; at DARTS' distance they are off by their own size."""
  exact = gradient(second_order)
  errors = [relative_difference(gradient(finite_difference, distance), exact) for distance in (1e-2, 1e-5, 1e-6)]
  assert max(errors[1:]) < 1e-9 and errors[0] > 0.1


def test_finite_differences_are_of_second_order():
  """Where the loss is smooth, a tenth of the distance leaves a hundredth of the error."""
  with jax.enable_x64(True):
    smooth = quadratic_problem()._replace(step_loss=lambda w, alpha: jnp.sum(jnp.sin(w)) * jnp.sum(jnp.cos(alpha)))
    exact = second_order(smooth)[1]
    errors = [relative_difference(finite_difference(smooth, distance)[1], exact) for distance in (1e-1, 1e-2, 1e-3)]
  np.testing.assert_allclose([errors[0] / errors[1], errors[1] / errors[2]], 100, rtol=0.01)


# ---- a bilevel quadratic: L_train = ½wᵀAw − wᵀBα + 3‖α‖², L_valid = ½‖w − c‖² + αᵀd ----


def quadratic():
  rng = np.random.default_rng(0)
  a = rng.standard_normal((4, 4))
  return a @ a.T + np.eye(4), rng.standard_normal((4, 3)), *rng.standard_normal((2, 4)), *rng.standard_normal((2, 3))


def quadratic_problem(decay=0.0, flood_level=0.0):
  a, b, c, w, d, alpha = map(jnp.asarray, quadratic())

  def train_loss(w, alpha):
    return w @ a @ w / 2 - w @ b @ alpha + 3 * alpha @ alpha

  def flooded_loss(w, alpha):
    return flooded(train_loss(w, alpha), flood_level)

  return Problem(
    train_loss=train_loss,
    step_loss=flooded_loss if flood_level else train_loss,
    valid_loss=lambda w, alpha: (jnp.sum(jnp.square(w - c)) / 2 + alpha @ d, 'more'),
    params=w,
    architecture=alpha,
    sgd_step=lambda w, gradient: w - 0.1 * (gradient + decay * w),
    learning_rate=0.1,
    weight_decay=decay,
  )


@pytest.mark.parametrize('decay', [0.0, 0.5])
@pytest.mark.parametrize('solve', [dict(solver='cg', terms=10), dict(solver='neumann', terms=3000, rate=0.08)])
def test_the_implicit_gradient_is_the_closed_form(solve, decay):
  """d + Bᵀ(A + decay)⁻¹(w − c)."""
  with jax.enable_x64(True):
    a, b, c, w, d, _ = quadratic()
    gradient = implicit(quadratic_problem(decay), **solve)[1]
  np.testing.assert_allclose(gradient, d + b.T @ np.linalg.solve(a + decay * np.eye(4), w - c), rtol=1e-8)


def test_damping_adds_to_the_diagonal_and_few_terms_are_a_partial_sum():
  with jax.enable_x64(True):
    a, b, c, w, d, _ = quadratic()
    damped = implicit(quadratic_problem(), solver='cg', terms=10, damping=2.0)[1]
    two = implicit(quadratic_problem(), solver='neumann', terms=2, rate=0.05)[1]
  np.testing.assert_allclose(damped, d + b.T @ np.linalg.solve(a + 2 * np.eye(4), w - c), rtol=1e-8)
  step = np.eye(4) - 0.05 * a
  np.testing.assert_allclose(two, d + b.T @ (0.05 * (np.eye(4) + step + step @ step)) @ (w - c), rtol=1e-10)


@pytest.mark.parametrize('method', [second_order, finite_difference])
def test_the_unrolled_gradient_is_the_closed_form(method):
  """w′ = w − 0.1·(Aw − Bα + decay·w): d + 0.1·Bᵀ(w′ − c)."""
  with jax.enable_x64(True):
    a, b, c, w, d, alpha = quadratic()
    (value, more), gradient = method(quadratic_problem(0.5))
    after = w - 0.1 * (a @ w - b @ alpha + 0.5 * w)
  assert more == 'more'
  np.testing.assert_allclose(value, np.sum((after - c) ** 2) / 2 + alpha @ d)
  np.testing.assert_allclose(gradient, d + 0.1 * b.T @ (after - c), rtol=1e-6)


def test_below_the_flood_the_step_climbs_and_the_minimum_stays():
  """Second order follows the step that flooding turns round; implicit asks for the minimum, which is the same."""
  with jax.enable_x64(True):
    a, b, c, w, d, alpha = quadratic()
    flooding = quadratic_problem(flood_level=1e3)
    up = w + 0.1 * (a @ w - b @ alpha)
    np.testing.assert_allclose(second_order(flooding)[1], d - 0.1 * b.T @ (up - c), rtol=1e-8)
    for solve in (dict(solver='cg', terms=10), dict(solver='neumann', terms=3000, rate=0.08)):
      np.testing.assert_allclose(implicit(flooding, **solve)[1], d + b.T @ np.linalg.solve(a, w - c), rtol=1e-8)


def test_conjugate_gradients_of_many_at_once():
  """Vmapped over problems, of trees: as each by itself."""

  def solved(shift):
    parts = lambda w: jnp.concatenate([w['one'], w['two']])
    problem = quadratic_problem()
    of_tree = problem._replace(
      train_loss=lambda w, alpha: problem.train_loss(parts(w) + shift, alpha),
      valid_loss=lambda w, alpha: problem.valid_loss(parts(w) + shift, alpha),
      params={'one': problem.params[:1], 'two': problem.params[1:]},
    )
    return implicit(of_tree, solver='cg', terms=10)[1]

  with jax.enable_x64(True):
    shifts = jnp.arange(3.0)
    np.testing.assert_allclose(jax.vmap(solved)(shifts), jnp.stack([solved(s) for s in shifts]), rtol=1e-10)

"""One bilevel step of differentiable architecture search, as a pure function.

min_α L_valid(w*(α), α) + λ·L_β(α) with w*(α) = argmin_w L_train(w, α). The parts of the step can be exchanged:
hypergradients approximate w*, regularizers stand for L_β or act on w, relaxations turn α into β, optimizers move w and
α.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from beta_darts_jax.method.cell_gradients import StepInputs, make_cell_gradients, make_loss_of_offsets
from beta_darts_jax.method.hypergradients import Problem, first_order
from beta_darts_jax.method.losses import DRAW_SALT, make_loss
from beta_darts_jax.method.optimizers import Hyperparameters, Optimizer, alpha_adam, unclipped_step, weight_sgd
from beta_darts_jax.method.parts import RegularizerLike, RelaxationLike, StepParts, resolve_parts
from beta_darts_jax.method.regularizers import (
  RegularizerContext,
  WeightContext,
  beta_decay,
  flooded,
  sum_forces,
)
from beta_darts_jax.method.relaxations import SOFTMAX
from beta_darts_jax.method.state import SearchState


def make_alpha_step(supernet, parts: StepParts) -> Callable:
  """Builds `alpha_step(state, train_batch, valid_batch, hyper, key) → (state, (validation loss, accuracy))`.

  Only hypergradients beyond the first order use `train_batch`.
  """
  loss = make_loss(supernet, parts.class_weights)

  def alpha_step(state, train_batch, valid_batch, hyper, key):
    def relax(architecture):
      return parts.relaxation(architecture, key, hyper)

    def train_loss(params, architecture):
      return loss(params, relax(architecture), state.batch_stats, train_batch, key)[0]

    def step_loss(params, architecture):
      value = train_loss(params, architecture)
      return flooded(value, hyper.flood_level) if parts.flooding else value

    def valid_loss(params, architecture):
      value, (accuracy, _) = loss(params, relax(architecture), state.batch_stats, valid_batch, key)
      return value, accuracy

    problem = Problem(
      train_loss=train_loss,
      step_loss=step_loss,
      valid_loss=valid_loss,
      params=state.params,
      architecture=state.architecture,
      sgd_step=unclipped_step(parts.weight_optimizer, hyper, state.weight_optimizer_state),
      learning_rate=hyper.learning_rate,
      weight_decay=hyper.weight_decay,
      scalars=hyper.scalars,
    )
    metrics, gradient = parts.hypergradient(problem, **hyper.hypergradient)
    context = RegularizerContext(epoch=hyper.epoch, gradient=gradient[0])
    forces = sum_forces(parts.alpha_regularizers, state.alphas, context, hyper)
    return _update_architecture(state, gradient, forces, parts.alpha_optimizer, hyper), metrics

  return alpha_step


def _update_architecture(state, gradient, forces, optimizer: Optimizer, hyper):
  """Moves α and the edge logits. Coupled forces join α's gradient. Decoupled forces act after the optimizer.

  At alpha_learning_rate 0 nothing moves, neither the architecture nor the optimizer's state.
  """
  alpha_gradient, edge_gradient = gradient
  if 'coupled' in forces:
    alpha_gradient = optax.tree.add(alpha_gradient, forces['coupled'])
  updates, optimizer_state = optimizer(hyper).update(
    (alpha_gradient, edge_gradient), state.alpha_optimizer_state, state.architecture
  )
  alphas, edge_logits = optax.apply_updates(state.architecture, updates)
  if 'decoupled' in forces:
    alphas = jax.tree.map(lambda a, f: a - hyper.alpha_learning_rate * f, alphas, forces['decoupled'])
  is_moving = hyper.alpha_learning_rate > 0
  alphas, edge_logits, optimizer_state = jax.tree.map(
    lambda new, old: jnp.where(is_moving, new, old),
    (alphas, edge_logits, optimizer_state),
    (*state.architecture, state.alpha_optimizer_state),
  )
  return state.replace(alphas=alphas, edge_logits=edge_logits, alpha_optimizer_state=optimizer_state)


def make_weight_step(supernet, parts: StepParts) -> Callable:
  """Builds `weight_step(state, batch, valid_batch, hyper, key) → (state, (train loss, accuracy))`.

  Only optimizers that ask for `valid_gradient` use `valid_batch`.
  """
  loss, regularize = make_loss(supernet, parts.class_weights), _make_regularize(supernet, parts)

  def weight_step(state, batch, valid_batch, hyper, key):
    def loss_of_betas(betas):
      return loss(state.params, betas, state.batch_stats, batch, key, train=False)[0]

    betas = parts.relaxation.weight_betas(state.architecture, key, hyper, loss_of_betas)

    def weight_loss(params):
      value, (accuracy, batch_stats) = loss(params, betas, state.batch_stats, batch, key)
      descended = flooded(value, hyper.flood_level) if parts.flooding else value
      return descended, (value, accuracy, batch_stats)

    (_, (value, accuracy, batch_stats)), gradient = jax.value_and_grad(weight_loss, has_aux=True)(state.params)
    gradient = regularize(state, batch, betas, gradient, hyper, key)

    def valid_gradient():
      return jax.grad(lambda params: loss(params, betas, state.batch_stats, valid_batch, key)[0])(state.params)

    optimizer = optax.with_extra_args_support(parts.weight_optimizer(hyper))
    updates, optimizer_state = optimizer.update(
      gradient, state.weight_optimizer_state, state.params, valid_gradient=valid_gradient
    )
    params = optax.apply_updates(state.params, updates)
    state = state.replace(params=params, batch_stats=batch_stats, weight_optimizer_state=optimizer_state)
    return state, (value, accuracy)

  return weight_step


def _make_regularize(supernet, parts: StepParts):
  """Builds the function that adds the forces of the weights' regularizers to the gradient of the weights."""
  loss = make_loss(supernet, parts.class_weights)
  loss_of_offsets = make_loss_of_offsets(supernet, parts.class_weights)
  cell_gradients = make_cell_gradients(supernet, parts.class_weights)

  def regularize(state, batch, betas, gradient, hyper, key):
    if not parts.weight_regularizers:
      return gradient
    inputs = StepInputs(state.batch_stats, batch, key)
    context = WeightContext(
      epoch=hyper.epoch,
      batch=batch,
      betas=betas,
      gradient=gradient,
      loss=lambda params, betas: loss(params, betas, *inputs)[0],
      cell_gradients=lambda params: cell_gradients(params, betas, inputs),
      gradient_at=lambda offsets: jax.grad(loss_of_offsets)(state.params, betas, offsets, inputs),
    )
    return optax.tree.add(gradient, sum_forces(parts.weight_regularizers, state.params, context, hyper)['weights'])

  return regularize


def make_search_step(
  supernet: Any,
  regularizer: RegularizerLike | Sequence[RegularizerLike] = beta_decay,
  hypergradient: str | Callable = first_order,
  relaxation: RelaxationLike = SOFTMAX,
  weight_optimizer: str | Optimizer = weight_sgd,
  alpha_optimizer: str | Optimizer = alpha_adam,
  flooding: bool = False,
  order: str = 'alpha_first',
  class_weights: Sequence[float] = (),
) -> Callable:
  """Builds `step(state, train_batch, valid_batch, hyper) -> (state, metrics)`: an α step and a weight step.

  The step is pure and jitted. It knows no data set and no space. Batches are
  `(images, labels)`, float [B, H, W, C] already augmented and int [B]. All random numbers are functions of (state.seed,
  state.step). `metrics` has the scalars of this step: `train_loss` and `alpha_loss` in nats, `train_accuracy` and
  `alpha_accuracy` (0 … 1), and `beta_decay`, the penalty of α before the step.

  Args:
    supernet: a module with `apply(variables, images, betas, train=…)`.
    regularizer: a scalar function `f` of α, whose λ in α's loss is `hyper.f_weight` or
      `hyper.regularizer_weights['f_weight']`; or a Regularizer; or a name of REGULARIZERS; or a sequence of these,
      whose forces add up.
    hypergradient: a function hypergradients.Problem → ((validation loss, accuracy), gradient of the architecture), or a
      name of HYPERGRADIENTS.
    relaxation: a Relaxation; or a function (alphas, key, hyper) → betas; or a name of RELAXATIONS.
    weight_optimizer, alpha_optimizer: functions Hyperparameters → optax.GradientTransformation, or names of OPTIMIZERS.
      Give the same ones to `SearchState.create`. The update of a weight optimizer with extra arguments also gets
      `valid_gradient`, a function without arguments that returns the gradient of the validation loss in the weights.
    flooding: the loss of the weights is `regularizers.flooded` at `hyper.flood_level`.
    order: 'alpha_first', as in β-DARTS, or 'weights_first', as in GDAS.
    class_weights: [K] factors of the losses of the images of each class, at both levels; () weights no class.

  Raises:
    InputError: a part is unknown, or the parts do not fit together.

  Example:
    >>> from beta_darts_jax import NAS_BENCH_201, Supernet, softmax_betas
    >>> supernet = Supernet(NAS_BENCH_201, num_classes=10, channels=4, cells_per_stage=1)
    >>> images, labels = jnp.zeros((2, 8, 8, 3)), jnp.zeros(2, jnp.int32)
    >>> def begin(key):
    ...   alphas = NAS_BENCH_201.init_alphas(key)
    ...   return SearchState.create(supernet.init(key, images, softmax_betas(alphas)), alphas)
    >>> state = jax.eval_shape(begin, jax.random.key(0))  # computes shapes only: nothing is compiled
    >>> hyper, batch = Hyperparameters(beta_decay_weight=5.0), (images, labels)
    >>> state, metrics = jax.eval_shape(make_search_step(supernet), state, batch, batch, hyper)
    >>> state.alphas['cell'].shape, sorted(metrics)
    ((6, 5), ['alpha_accuracy', 'alpha_loss', 'beta_decay', 'train_accuracy', 'train_loss'])
  """
  parts = resolve_parts(
    regularizer=regularizer,
    hypergradient=hypergradient,
    relaxation=relaxation,
    weight_optimizer=weight_optimizer,
    alpha_optimizer=alpha_optimizer,
    flooding=flooding,
    order=order,
    class_weights=class_weights,
  )
  return make_step(supernet, parts)


def make_step(supernet: Any, parts: StepParts) -> Callable:
  """Builds the step of `make_search_step` from resolved parts."""
  alpha_step, weight_step = make_alpha_step(supernet, parts), make_weight_step(supernet, parts)

  def step(state: SearchState, train_batch, valid_batch, hyper: Hyperparameters):
    alpha_key, weight_key = step_keys(state)
    penalty = beta_decay(state.alphas)
    if parts.order == 'weights_first':
      state, (train_loss, train_accuracy) = weight_step(state, train_batch, valid_batch, hyper, weight_key)
    state, (alpha_loss, alpha_accuracy) = alpha_step(state, train_batch, valid_batch, hyper, alpha_key)
    if parts.order == 'alpha_first':
      state, (train_loss, train_accuracy) = weight_step(state, train_batch, valid_batch, hyper, weight_key)
    metrics = {
      'train_loss': train_loss,
      'train_accuracy': train_accuracy,
      'alpha_loss': alpha_loss,
      'alpha_accuracy': alpha_accuracy,
      'beta_decay': penalty,
    }
    sums = {name: total + metrics[name] for name, total in state.sums.items()}
    return state.replace(step=state.step + 1, sums=sums), metrics

  return jax.jit(step)


def step_keys(state: SearchState) -> tuple[jax.Array, jax.Array]:
  """Returns the keys of the α step and of the weight step."""
  step_key = jax.random.fold_in(jax.random.key(state.seed), state.step)
  alpha_key, weight_key = jax.random.split(jax.random.fold_in(step_key, DRAW_SALT))
  return alpha_key, weight_key

"""One bilevel step of differentiable architecture search, as a pure function.

min_α L_valid(w*(α), α) + λ·L_β(α) with w*(α) = argmin_w L_train(w, α). What is
put for w*, for L_β and for the way from α to β are parts: hypergradients,
regularizers, relaxations.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from beta_darts_jax.method.hypergradients import Problem, first_order
from beta_darts_jax.method.losses import DRAW_SALT, make_cell_gradients, make_loss
from beta_darts_jax.method.optimizers import Hyperparameters, adam_step, sgd_step, weight_optimizer
from beta_darts_jax.method.regularizers import Regularizer, RegularizerContext, beta_decay, flooded, from_penalty, total
from beta_darts_jax.method.relaxations import SOFTMAX, Relaxation
from beta_darts_jax.method.state import METRICS, SearchState


def make_alpha_step(
  supernet, regularizers: Sequence[Regularizer], hypergradient: Callable, relaxation: Relaxation, flooding: bool
) -> Callable:
  """Builds `alpha_step(state, train_batch, valid_batch, hyper, key) → (state, (valid loss, accuracy))`.

  Arguments as of `make_search_step`; `train_batch` is what hypergradients beyond the first order step along.
  """
  loss, cell_gradients = make_loss(supernet), make_cell_gradients(supernet)

  def alpha_step(state, train_batch, valid_batch, hyper, key):
    relax = lambda architecture: relaxation(architecture, key, hyper)

    def valid_loss(params, architecture):
      value, (reached, _) = loss(params, relax(architecture), state.batch_stats, valid_batch, key)
      return value, reached

    train_loss = lambda params, architecture: loss(params, relax(architecture), state.batch_stats, train_batch, key)[0]
    step_loss = lambda *at: flooded(train_loss(*at), hyper.flood_level) if flooding else train_loss(*at)
    problem = Problem(
      train_loss,
      step_loss,
      valid_loss,
      state.params,
      state.architecture,
      sgd_step(hyper, state.weight_optimizer_state),
      hyper.learning_rate,
      hyper.weight_decay,
    )
    metrics, (gradient, edge_gradient) = hypergradient(problem)
    mean = lambda alphas: relaxation.with_skip(relaxation.mean((alphas, state.edge_logits)), hyper)
    of_cells = lambda alphas: cell_gradients(alphas, mean, state.params, state.batch_stats, valid_batch, key)
    sums = total(regularizers, state.alphas, RegularizerContext(hyper.epoch, gradient, of_cells), hyper)
    if 'coupled' in sums:
      gradient = optax.tree.add(gradient, sums['coupled'])
    squared = (optax.tree.add(gradient, sums['second_moment']), edge_gradient) if 'second_moment' in sums else None
    updates, moments = adam_step(
      hyper, (gradient, edge_gradient), state.alpha_optimizer_state, state.architecture, squared
    )
    alphas, edge_logits = optax.apply_updates(state.architecture, updates)
    if 'decoupled' in sums:
      alphas = jax.tree.map(lambda a, f: a - hyper.alpha_learning_rate * f, alphas, sums['decoupled'])
    moves = hyper.alpha_learning_rate > 0
    moments = jax.tree.map(lambda new, old: jnp.where(moves, new, old), moments, state.alpha_optimizer_state)
    return state.replace(alphas=alphas, edge_logits=edge_logits, alpha_optimizer_state=moments), metrics

  return alpha_step


def make_weight_step(supernet, relaxation: Relaxation, flooding: bool) -> Callable:
  """Builds `weight_step(state, batch, hyper, key) → (state, (train loss, accuracy))`."""
  loss = make_loss(supernet)

  def weight_step(state, batch, hyper, key):
    as_it_is = lambda betas: loss(state.params, betas, state.batch_stats, batch, key, train=False)[0]
    betas = relaxation(state.architecture, key, hyper, as_it_is)

    def weight_loss(params):
      value, (reached, batch_stats) = loss(params, betas, state.batch_stats, batch, key)
      return flooded(value, hyper.flood_level) if flooding else value, (value, reached, batch_stats)

    (_, (*metrics, batch_stats)), gradient = jax.value_and_grad(weight_loss, has_aux=True)(state.params)
    updates, momentum = weight_optimizer(hyper).update(gradient, state.weight_optimizer_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return state.replace(params=params, batch_stats=batch_stats, weight_optimizer_state=momentum), metrics

  return weight_step


def make_search_step(
  supernet: Any,
  regularizer: Callable | Regularizer | Sequence[Regularizer] = beta_decay,
  hypergradient: Callable = first_order,
  relaxation: Relaxation = SOFTMAX,
  flooding: bool = False,
) -> Callable:
  """Builds `step(state, train_batch, valid_batch, hyper) -> (state, metrics)`: the α step, then the weight step.

  The step is pure and jitted; it knows no data set and no space. Batches are
  `(images, labels)`, float [B, H, W, C] already augmented and int [B].
  `metrics` has the scalars METRICS of this step. Random numbers are those of (state.seed, state.step).

  Args:
    supernet: a module with `apply(variables, images, betas, train=…)`.
    regularizer: scalar function of α, weighted by `hyper.beta_decay_weight` in α's loss; or a Regularizer, or several.
    hypergradient: hypergradients.Problem → ((validation loss, …), gradient of the architecture).
    relaxation: how α becomes β.
    flooding: the weights' loss is regularizers.flooded at `hyper.flood_level`.

  Example:
    >>> from beta_darts_jax.spaces.space import NAS_BENCH_201, softmax_betas
    >>> from beta_darts_jax.networks.supernet import Supernet
    >>> supernet = Supernet(NAS_BENCH_201, num_classes=10, channels=4, cells_per_stage=1)
    >>> images, labels = jnp.zeros((2, 8, 8, 3)), jnp.zeros(2, jnp.int32)
    >>> def begin(key):
    ...   alphas = NAS_BENCH_201.init_alphas(key)
    ...   return SearchState.create(supernet.init(key, images, softmax_betas(alphas)), alphas)
    >>> state = jax.eval_shape(begin, jax.random.key(0))  # shapes alone: nothing is compiled
    >>> hyper = Hyperparameters(beta_decay_weight=5.0)
    >>> batch = (images, labels)
    >>> state, metrics = jax.eval_shape(make_search_step(supernet), state, batch, batch, hyper)
    >>> state.alphas['cell'].shape, sorted(metrics)
    ((6, 5), ['alpha_accuracy', 'alpha_loss', 'beta_decay', 'train_accuracy', 'train_loss'])
  """
  regularizer = from_penalty(regularizer) if callable(regularizer) else regularizer
  regularizers = (regularizer,) if isinstance(regularizer, Regularizer) else tuple(regularizer)
  alpha_step = make_alpha_step(supernet, regularizers, hypergradient, relaxation, flooding)
  weight_step = make_weight_step(supernet, relaxation, flooding)

  def step(state: SearchState, train_batch, valid_batch, hyper: Hyperparameters):
    alpha_key, weight_key = step_keys(state)
    penalty = beta_decay(state.alphas)
    state, alpha_metrics = alpha_step(state, train_batch, valid_batch, hyper, alpha_key)
    state, weight_metrics = weight_step(state, train_batch, hyper, weight_key)
    metrics = dict(zip(METRICS, (*weight_metrics, *alpha_metrics, penalty), strict=True))
    sums = {name: so_far + metrics[name] for name, so_far in state.sums.items()}
    return state.replace(step=state.step + 1, sums=sums), metrics

  return jax.jit(step)


def step_keys(state: SearchState) -> tuple[jax.Array, jax.Array]:
  """The keys of the α step and of the weight step."""
  step_key = jax.random.fold_in(jax.random.key(state.seed), state.step)
  return tuple(jax.random.split(jax.random.fold_in(step_key, DRAW_SALT)))

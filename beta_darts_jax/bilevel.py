"""One bilevel step of differentiable architecture search, as a pure function.

min_α L_valid(w*(α), α) + λ·L_β(α) with w*(α) = argmin_w L_train(w, α). First
order: w* is taken to be the current w.
"""

from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax

from beta_darts_jax.metrics import accuracy, cross_entropy
from beta_darts_jax.regularizers import beta_decay
from beta_darts_jax.spaces import softmax_betas


@flax.struct.dataclass
class Hyperparameters:
  """Scalars of one step: arguments, not constants, so that one program serves every value of them.

  The defaults are β-DARTS' on NAS-Bench-201. Decays are coupled: added to the
  gradient before the momentum or Adam, as in PyTorch.
  """

  learning_rate: float | jax.Array = 0.025
  momentum: float | jax.Array = 0.9
  weight_decay: float | jax.Array = 3e-4
  clip_norm: float | jax.Array = 5.0
  alpha_learning_rate: float | jax.Array = 3e-4
  alpha_b1: float | jax.Array = 0.5
  alpha_b2: float | jax.Array = 0.999
  alpha_weight_decay: float | jax.Array = 1e-3
  beta_decay_weight: float | jax.Array = 0.0


def clip_by_global_norm(max_norm) -> optax.GradientTransformation:
  """Scales gradients by min(1, max_norm/(norm + 1e-6)): PyTorch's clip_grad_norm_, with its 1e-6."""

  def update(updates, state, params=None):
    del params
    scale = jnp.minimum(1.0, max_norm / (optax.tree.norm(updates) + 1e-6))
    return jax.tree.map(lambda g: g * scale.astype(g.dtype), updates), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def weight_optimizer(hyper: Hyperparameters) -> optax.GradientTransformation:
  """SGD of the network weights: clip, coupled decay, momentum without Nesterov."""
  return optax.chain(
    clip_by_global_norm(hyper.clip_norm),
    optax.add_decayed_weights(hyper.weight_decay),
    optax.sgd(hyper.learning_rate, momentum=hyper.momentum),
  )


def alpha_optimizer(hyper: Hyperparameters) -> optax.GradientTransformation:
  """Adam of the architecture logits with coupled L2 decay."""
  return optax.chain(
    optax.add_decayed_weights(hyper.alpha_weight_decay),
    optax.adam(hyper.alpha_learning_rate, b1=hyper.alpha_b1, b2=hyper.alpha_b2),
  )


DRAWS = 0x6472  # sets the keys of operations that draw apart from those of the batches
METRICS = ('train_loss', 'train_accuracy', 'alpha_loss', 'alpha_accuracy', 'beta_decay')


@flax.struct.dataclass
class SearchState:
  """All that a search carries from step to step.

  Attributes:
    step: bilevel steps taken, int32.
    seed: uint32; with `step` it determines every random number of the run.
    params: weights w of the supernet.
    batch_stats: running statistics of BatchNorm, moved by the weight step only.
    alphas: logits {cell type: [E, O]}.
    weight_optimizer_state: momentum of the weights.
    alpha_optimizer_state: moments of the logits.
    sums: each of METRICS added up since the epoch began.
  """

  step: jax.Array
  seed: jax.Array
  params: Any
  batch_stats: Any
  alphas: Any
  weight_optimizer_state: Any
  alpha_optimizer_state: Any
  sums: dict[str, jax.Array]

  @classmethod
  def create(cls, variables, alphas, seed: int = 0) -> 'SearchState':
    """The state before the first step, from `supernet.init` and `space.init_alphas`."""
    hyper = Hyperparameters()
    return cls(
      step=jnp.zeros((), jnp.int32),
      seed=jnp.asarray(seed, jnp.uint32),
      params=variables['params'],
      batch_stats=variables['batch_stats'],
      alphas=alphas,
      weight_optimizer_state=weight_optimizer(hyper).init(variables['params']),
      alpha_optimizer_state=alpha_optimizer(hyper).init(alphas),
      sums=zero_sums(jax.tree.leaves(alphas)[0].dtype),
    )


def zero_sums(dtype=jnp.float32) -> dict[str, jax.Array]:
  """`SearchState.sums` at the beginning of an epoch."""
  return {name: jnp.zeros((), dtype) for name in METRICS}


def make_search_step(supernet, regularizer: Callable = beta_decay) -> Callable:
  """Builds `step(state, train_batch, valid_batch, hyper) -> (state, metrics)`: the α step, then the weight step.

  The step is pure and jitted; it knows no data set and no space. Batches are
  `(images, labels)`, float [B, H, W, C] already augmented and int [B].
  `metrics` has the scalars METRICS of this step. Operations that draw get keys of (state.seed, state.step).

  Args:
    supernet: a module with `apply(variables, images, betas, train=…)`.
    regularizer: scalar function of α, weighted by `hyper.beta_decay_weight` in α's loss.
  """

  def loss(params, alphas, batch_stats, batch, key):
    images, labels = batch
    logits, updates = supernet.apply(
      {'params': params, 'batch_stats': batch_stats},
      images,
      softmax_betas(alphas),
      train=True,
      mutable=['batch_stats'],
      rngs={'draw': key},
    )
    return cross_entropy(logits, labels), (accuracy(logits, labels), updates['batch_stats'])

  def alpha_loss(alphas, params, batch_stats, batch, key, weight):
    valid_loss, (valid_accuracy, _) = loss(params, alphas, batch_stats, batch, key)
    penalty = regularizer(alphas)
    return valid_loss + weight * penalty, (valid_loss, valid_accuracy, penalty)

  def step(state: SearchState, train_batch, valid_batch, hyper: Hyperparameters):
    step_key = jax.random.fold_in(jax.random.key(state.seed), state.step)
    alpha_key, weight_key = jax.random.split(jax.random.fold_in(step_key, DRAWS))
    (_, (valid_loss, valid_accuracy, penalty)), alpha_gradient = jax.value_and_grad(alpha_loss, has_aux=True)(
      state.alphas, state.params, state.batch_stats, valid_batch, alpha_key, hyper.beta_decay_weight
    )
    updates, alpha_optimizer_state = alpha_optimizer(hyper).update(
      alpha_gradient, state.alpha_optimizer_state, state.alphas
    )
    alphas = optax.apply_updates(state.alphas, updates)

    (train_loss, (train_accuracy, batch_stats)), gradient = jax.value_and_grad(loss, has_aux=True)(
      state.params, alphas, state.batch_stats, train_batch, weight_key
    )
    updates, weight_optimizer_state = weight_optimizer(hyper).update(
      gradient, state.weight_optimizer_state, state.params
    )
    metrics = dict(zip(METRICS, (train_loss, train_accuracy, valid_loss, valid_accuracy, penalty), strict=True))
    return state.replace(
      step=state.step + 1,
      params=optax.apply_updates(state.params, updates),
      batch_stats=batch_stats,
      alphas=alphas,
      weight_optimizer_state=weight_optimizer_state,
      alpha_optimizer_state=alpha_optimizer_state,
      sums={name: total + metrics[name] for name, total in state.sums.items()},
    ), metrics

  return jax.jit(step)

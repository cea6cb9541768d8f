"""One training step of a genotype's network, as a pure function."""

from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax

from beta_darts_jax.method.losses import DRAW_SALT, accuracy, cross_entropy
from beta_darts_jax.method.optimizers import clip_by_global_norm
from beta_darts_jax.retrain.recipe import Recipe


@flax.struct.dataclass
class TrainState:
  """The state that training carries from step to step.

  Attributes:
    step: [] int32, steps taken.
    seed: [] uint32. Every random number of the training is a function of (seed, step).
    params, batch_stats: variables of the network.
    optimizer_state: momentum.
    average: exponential moving average of the variables; None without.
    sums: {'train_loss': [], 'train_accuracy': []}, summed over the steps of the epoch so far.
  """

  step: jax.Array
  seed: jax.Array
  params: Any
  batch_stats: Any
  optimizer_state: Any
  average: Any
  sums: dict[str, jax.Array]

  @property
  def variables(self) -> dict:
    """The variables that are evaluated: the moving average where there is one."""
    return self.average or {'params': self.params, 'batch_stats': self.batch_stats}


def optimizer(recipe: Recipe, learning_rate) -> optax.GradientTransformation:
  """SGD with clipping, coupled decay and momentum, in PyTorch's order."""
  return optax.chain(
    clip_by_global_norm(recipe.clip_norm) if recipe.clip_norm else optax.identity(),
    optax.add_decayed_weights(recipe.weight_decay),
    optax.sgd(learning_rate, momentum=recipe.momentum, nesterov=recipe.nesterov),
  )


def create_state(network, image_shape: tuple[int, int, int], recipe: Recipe, seed) -> TrainState:
  """Returns the state before the first step, as a function of `seed`. Jit it."""
  variables = network.init(jax.random.key(seed), jnp.zeros((1, *image_shape)))
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    seed=jnp.asarray(seed, jnp.uint32),
    params=variables['params'],
    batch_stats=variables['batch_stats'],
    optimizer_state=optimizer(recipe, 0.0).init(variables['params']),
    average=jax.tree.map(jnp.copy, dict(variables)) if recipe.ema_decay else None,
    sums={name: jnp.zeros(()) for name in ('train_loss', 'train_accuracy')},
  )


def make_train_step(network, recipe: Recipe, auxiliary_weight: float = 0.0) -> Callable:
  """Builds `step(state, images, labels, learning_rate, drop_path_rate) → state`: pure, to be jitted by the caller.

  Images are float [B, H, W, C], labels int [B].

  Args:
    network: a module, with an auxiliary head if `auxiliary_weight` is above 0.
    recipe: the recipe of the training.
    auxiliary_weight: weight of the auxiliary head's loss.
  """

  def loss(params, batch_stats, images, labels, drop_path_rate, key):
    output, updates = network.apply(
      {'params': params, 'batch_stats': batch_stats},
      images,
      drop_path_rate if recipe.drop_path_rate else None,
      train=True,
      mutable=['batch_stats'],
      rngs={'draw': key},
    )
    logits, auxiliary_logits = output if auxiliary_weight else (output, None)
    value = cross_entropy(logits, labels, recipe.label_smoothing, recipe.class_weights)
    if auxiliary_weight:
      value += auxiliary_weight * cross_entropy(auxiliary_logits, labels, recipe.label_smoothing, recipe.class_weights)
    return value, (accuracy(logits, labels), updates['batch_stats'])

  def step(state, images, labels, learning_rate, drop_path_rate):
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(state.seed), DRAW_SALT), state.step)
    (train_loss, (train_accuracy, batch_stats)), gradient = jax.value_and_grad(loss, has_aux=True)(
      state.params, state.batch_stats, images, labels, drop_path_rate, key
    )
    updates, optimizer_state = optimizer(recipe, learning_rate).update(gradient, state.optimizer_state, state.params)
    params = optax.apply_updates(state.params, updates)
    average = None
    if decay := recipe.ema_decay:
      variables = {'params': params, 'batch_stats': batch_stats}
      average = jax.tree.map(lambda a, v: decay * a + (1 - decay) * v, state.average, variables)
    return state.replace(
      step=state.step + 1,
      params=params,
      batch_stats=batch_stats,
      optimizer_state=optimizer_state,
      average=average,
      sums={
        'train_loss': state.sums['train_loss'] + train_loss,
        'train_accuracy': state.sums['train_accuracy'] + train_accuracy,
      },
    )

  return step


def evaluation_logits(network, variables, images):
  """Returns logits [B, K] of images [B, H, W, C]. Cells with noise draw the same numbers for every batch."""
  return network.apply(variables, images, train=False, rngs={'draw': jax.random.key(0)})

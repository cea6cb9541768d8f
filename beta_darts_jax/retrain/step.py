"""One training step of a genotype's network as a pure function, and the recipe's schedules."""

import math
from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax

from beta_darts_jax.method.losses import DRAW_SALT, accuracy, cross_entropy
from beta_darts_jax.method.optimizers import clip_by_global_norm


@flax.struct.dataclass
class TrainState:
  """All that training carries from step to step.

  Attributes:
    step: steps taken, int32.
    seed: uint32; with `step` it determines every random number.
    params, batch_stats: of the network.
    optimizer_state: momentum.
    average: exponential moving average of the variables; None where it is off.
    sums: train_loss and train_accuracy added up since the epoch began.
  """

  step: jax.Array
  seed: jax.Array
  params: Any
  batch_stats: Any
  optimizer_state: Any
  average: Any
  sums: dict[str, jax.Array]


def zero_sums() -> dict[str, jax.Array]:
  """`TrainState.sums` at the beginning of an epoch."""
  return {name: jnp.zeros(()) for name in ('train_loss', 'train_accuracy')}


def optimizer(recipe, learning_rate) -> optax.GradientTransformation:
  """SGD with coupled decay: clip, decay, momentum (PyTorch's order). `clip_norm` 0 is off."""
  return optax.chain(
    clip_by_global_norm(recipe['clip_norm']) if recipe['clip_norm'] else optax.identity(),
    optax.add_decayed_weights(recipe['weight_decay']),
    optax.sgd(learning_rate, momentum=recipe['momentum'], nesterov=recipe['nesterov']),
  )


def create_state(network, image_shape, recipe, seed) -> TrainState:
  """The state before the first step, as a function of `seed` (to be jitted)."""
  variables = network.init(jax.random.key(seed), jnp.zeros((1, *image_shape)))
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    seed=jnp.asarray(seed, jnp.uint32),
    params=variables['params'],
    batch_stats=variables['batch_stats'],
    optimizer_state=optimizer(recipe, 0.0).init(variables['params']),
    average=jax.tree.map(jnp.copy, dict(variables)) if recipe['ema_decay'] else None,
    sums=zero_sums(),
  )


def make_train_step(network, recipe, auxiliary_weight: float = 0.0) -> Callable:
  """Builds `step(state, images, labels, learning_rate, drop_path_rate) → state`: pure, to be jitted by the caller.

  Args:
    network: a module; with an auxiliary head where `auxiliary_weight` is above 0.
    recipe: mapping with momentum, nesterov, weight_decay, clip_norm, label_smoothing, drop_path_rate and ema_decay.
    auxiliary_weight: of the auxiliary head's loss.
  """

  def loss(params, batch_stats, images, labels, rate, key):
    output, updates = network.apply(
      {'params': params, 'batch_stats': batch_stats},
      images,
      rate if recipe['drop_path_rate'] else None,
      train=True,
      mutable=['batch_stats'],
      rngs={'draw': key},
    )
    logits, auxiliary = output if auxiliary_weight else (output, None)
    value = cross_entropy(logits, labels, recipe['label_smoothing'])
    if auxiliary_weight:
      value += auxiliary_weight * cross_entropy(auxiliary, labels, recipe['label_smoothing'])
    return value, (accuracy(logits, labels), updates['batch_stats'])

  def step(state, images, labels, learning_rate, drop_path_rate):
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(state.seed), DRAW_SALT), state.step)
    (train_loss, (train_accuracy, batch_stats)), gradient = jax.value_and_grad(loss, has_aux=True)(
      state.params, state.batch_stats, images, labels, drop_path_rate, key
    )
    updates, optimizer_state = optimizer(recipe, learning_rate).update(gradient, state.optimizer_state, state.params)
    params, decay = optax.apply_updates(state.params, updates), recipe['ema_decay']
    variables = {'params': params, 'batch_stats': batch_stats}
    return state.replace(
      step=state.step + 1,
      params=params,
      batch_stats=batch_stats,
      optimizer_state=optimizer_state,
      average=jax.tree.map(lambda a, v: decay * a + (1 - decay) * v, state.average, variables) if decay else None,
      sums={
        'train_loss': state.sums['train_loss'] + train_loss,
        'train_accuracy': state.sums['train_accuracy'] + train_accuracy,
      },
    )

  return step


# ---- schedules: (recipe, progress in epochs) → learning rate ----


def _cosine(recipe, epoch):
  return recipe['learning_rate'] * (1 + math.cos(math.pi * epoch / recipe['epochs'])) / 2


def _linear_tail(recipe, epoch):
  """ImageNet's: linear to 0 over all but the last five epochs, which it shares out anew; never 0."""
  epochs, rate = recipe['epochs'], recipe['learning_rate']
  body = epochs - 5
  return rate * (body - epoch) / body if epoch < body else rate * (epochs - epoch) / (body * 5)


SCHEDULES = {
  'cosine_epochs': lambda recipe, epoch: _cosine(recipe, math.floor(epoch)),
  'cosine_steps': _cosine,
  'linear_tail': lambda recipe, epoch: _linear_tail(recipe, math.floor(epoch)),
}


def learning_rates(recipe, epoch: int, steps: int) -> np.ndarray:
  """Learning rate of each step of an epoch, [steps] float32; the first warmup_epochs grow linearly, epoch by epoch."""
  schedule = SCHEDULES[recipe['schedule']]
  rates = np.array([schedule(recipe, epoch + i / steps) for i in range(steps)], np.float32)
  if epoch < recipe['warmup_epochs']:
    rates[:] = recipe['learning_rate'] * (epoch + 1) / recipe['warmup_epochs']
  return rates


def drop_path_rate(recipe, epoch: int) -> np.float32:
  """Grows linearly from 0: drop_path_rate·epoch/epochs."""
  return np.float32(recipe['drop_path_rate'] * epoch / recipe['epochs'])


# ---- evaluation ----


def evaluation_logits(network, variables, images):
  """Logits [B, K] of images [B, H, W, C]; cells with noise draw the same for every batch."""
  return network.apply(variables, images, train=False, rngs={'draw': jax.random.key(0)})


def variables_of(state: TrainState) -> dict:
  """What is evaluated: the averaged variables where there are any."""
  return state.average or {'params': state.params, 'batch_stats': state.batch_stats}

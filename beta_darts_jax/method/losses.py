"""Losses and accuracies, and the loss of a supernet as a function of its weights and β.

Legend: B batch, K classes.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax
from jax import lax

DRAW_SALT = 0x6472  # folded into the keys of operations that draw, to set them apart from the keys of batches


def cross_entropy(
  logits: jax.Array, labels: jax.Array, smoothing: float = 0.0, class_weights: Sequence[float] = ()
) -> jax.Array:
  """Returns the mean of −log softmax(logits)[label] over the batch, in nats.

  Args:
    logits: [B, K].
    labels: int [B].
    smoothing: ε of label smoothing. The target gives 1 − ε to the label and spreads ε evenly over all K classes.
    class_weights: [K] factors of the losses of the images of each class; () weights no class. The sum is divided by B,
      not by the sum of the weights.
  """
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  if smoothing:
    losses = (1 - smoothing) * losses - smoothing * jnp.mean(jax.nn.log_softmax(logits), axis=-1)
  if class_weights:
    losses = losses * jnp.asarray(class_weights, losses.dtype)[labels]
  return jnp.mean(losses)


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Returns the share of the batch, 0 … 1, whose largest logit is the label; logits [B, K], labels int [B]."""
  return jnp.mean(jnp.argmax(logits, axis=-1) == labels, dtype=logits.dtype)


def top_1_and_top_5(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns whether the label has the largest logit, and whether it has one of the five largest: bool [B] each.

  Args:
    logits: [B, K].
    labels: int [B].
  """
  hits = lax.top_k(logits, min(5, logits.shape[-1]))[1] == labels[:, None]
  return hits[:, 0], jnp.any(hits, axis=-1)


def make_loss(supernet, class_weights: Sequence[float] = ()) -> Callable:
  """Builds `loss(params, betas, batch_stats, batch, key, train=True, offsets=None)` → (nats, (accuracy, batch_stats)).

  `batch` is (images [B, H, W, C], labels [B]). `key` is for operations that draw. Each cell adds its `offsets` to its
  β. Without `train`, BatchNorm uses the running statistics and does not change them. `class_weights` are those of
  `cross_entropy`.
  """

  def loss(params, betas, batch_stats, batch, key, train=True, offsets=None):
    images, labels = batch
    variables = {'params': params, 'batch_stats': batch_stats} | ({} if offsets is None else {'offsets': offsets})
    arguments = {'train': train, 'rngs': {'draw': key}}
    if train:
      logits, updates = supernet.apply(variables, images, betas, mutable=['batch_stats'], **arguments)
      batch_stats = updates['batch_stats']
    else:
      logits = supernet.apply(variables, images, betas, **arguments)
    return cross_entropy(logits, labels, class_weights=class_weights), (accuracy(logits, labels), batch_stats)

  return loss

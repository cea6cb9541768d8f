"""Loss and accuracy of a network over many images, in one compiled loop."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import lax

from beta_darts_jax.method.losses import correct


def make_evaluate(
  logits: Callable, prepare: Callable, batch_size: int, spread: Callable = lambda index: index
) -> jax.stages.Wrapped:
  """Builds `evaluate(arguments, images, labels) -> (mean loss in nats, top-1, top-5 accuracy 0 … 1)`, jitted.

  Args:
    logits: (arguments, float images [B, H, W, C]) → [B, K].
    prepare: uint8 images [B, H, W, C] → float.
    batch_size: B; the last batch is filled up with images that do not count.
    spread: a batch's indices [B] → the same, split over devices.
  """

  @jax.jit
  def evaluate(arguments, images, labels):
    index = jnp.arange(-(-len(labels) // batch_size) * batch_size).reshape(-1, batch_size)

    def batch(i):
      where = spread(jnp.minimum(i, len(labels) - 1))
      output = logits(arguments, prepare(images[where]))
      loss = optax.softmax_cross_entropy_with_integer_labels(output, labels[where])
      counts = i < len(labels)
      return tuple(jnp.sum(value * counts) for value in (loss, *correct(output, labels[where])))

    return tuple(jnp.sum(total) / len(labels) for total in lax.map(batch, index))

  return evaluate

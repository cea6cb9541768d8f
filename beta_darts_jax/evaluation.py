"""Loss and accuracy of a network over many images, in one compiled loop."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import lax


def make_evaluate(logits: Callable, prepare: Callable, batch_size: int) -> Callable:
  """Builds `evaluate(arguments, images, labels) -> (mean loss in nats, accuracy 0 … 1)`, jitted.

  Args:
    logits: (arguments, float images [B, H, W, C]) → [B, K].
    prepare: uint8 images [B, H, W, C] → float.
    batch_size: B; the last batch is filled up with images that do not count.
  """

  @jax.jit
  def evaluate(arguments, images, labels):
    index = jnp.arange(-(-len(labels) // batch_size) * batch_size).reshape(-1, batch_size)

    def batch(i):
      where = jnp.minimum(i, len(labels) - 1)
      output = logits(arguments, prepare(images[where]))
      loss = optax.softmax_cross_entropy_with_integer_labels(output, labels[where])
      correct = jnp.argmax(output, axis=-1) == labels[where]
      counts = i < len(labels)
      return jnp.sum(loss * counts), jnp.sum(correct & counts)

    loss, correct = lax.map(batch, index)
    return jnp.sum(loss) / len(labels), jnp.sum(correct) / len(labels)

  return evaluate

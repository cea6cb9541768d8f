"""Loss and accuracy of a network over many images, in one compiled loop."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import lax

from beta_darts_jax.method.losses import top_1_and_top_5


def _identity(index):
  return index


def make_evaluate(
  logits: Callable, prepare: Callable, batch_size: int, constrain: Callable = _identity
) -> jax.stages.Wrapped:
  """Builds `evaluate(arguments, images, labels) -> (mean loss in nats, top-1, top-5 accuracy 0 … 1)`, jitted.

  Images are uint8 [N, H, W, C], labels int [N].

  Args:
    logits: (arguments, float images [B, H, W, C]) → [B, K].
    prepare: uint8 images [B, H, W, C] → float.
    batch_size: B. The last batch is filled with images that do not count.
    constrain: indices [B] of a batch → the same, sharded over devices.
  """

  @jax.jit
  def evaluate(arguments, images, labels):
    num_batches = -(-len(labels) // batch_size)
    indices = jnp.arange(num_batches * batch_size).reshape(-1, batch_size)

    def evaluate_batch(index):
      where = constrain(jnp.minimum(index, len(labels) - 1))
      output = logits(arguments, prepare(images[where]))
      loss = optax.softmax_cross_entropy_with_integer_labels(output, labels[where])
      counts = index < len(labels)
      return tuple(jnp.sum(value * counts) for value in (loss, *top_1_and_top_5(output, labels[where])))

    return tuple(jnp.sum(total) / len(labels) for total in lax.map(evaluate_batch, indices))

  return evaluate

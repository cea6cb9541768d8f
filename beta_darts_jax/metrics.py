"""Losses and accuracies."""

import jax
import jax.numpy as jnp
import optax


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Mean over the batch of −log softmax(logits)[label], in nats; logits [B, K], labels int [B]."""
  return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Share of the batch, 0 to 1, whose largest logit is the label; logits [B, K], labels int [B]."""
  return jnp.mean(jnp.argmax(logits, axis=-1) == labels, dtype=logits.dtype)

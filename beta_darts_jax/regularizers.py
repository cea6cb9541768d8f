"""Scalar functions of the architecture logits α, and how their weight λ grows.

Legend: E edges, O candidate operations of an edge.
"""

import jax
import jax.numpy as jnp


def beta_decay(alphas) -> jax.Array:
  """Beta-Decay, L_β(α): for each cell type the mean over edges of logsumexp over operations; their sum.

  Its gradient is softmax(α)/E: every logit decays in proportion to its own β
  (Ye et al., β-DARTS, CVPR 2022). At α = 0 a cell type counts log(O); a shift
  of all its logits by c adds c.

  Args:
    alphas: tree of logits [E, O], one leaf a cell type.

  Returns:
    A scalar of α's dtype.
  """
  return sum(jnp.mean(jax.nn.logsumexp(alpha, axis=-1)) for alpha in jax.tree.leaves(alphas))


def linear_ramp(maximum: float, epoch: int, epochs: int) -> float:
  """λ(epoch) = maximum·epoch/epochs, constant within an epoch: 0 in the first (β-DARTS' schedule)."""
  return maximum * epoch / epochs

"""All that a search carries from step to step."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from beta_darts_jax.method.optimizers import Hyperparameters, alpha_optimizer, weight_optimizer

METRICS = ('train_loss', 'train_accuracy', 'alpha_loss', 'alpha_accuracy', 'beta_decay')


class SearchState(struct.PyTreeNode):
  """One search: its two levels, their optimizers, and where it stands.

  Attributes:
    step: bilevel steps taken, int32.
    seed: uint32; with `step` it determines every random number of the run.
    params: weights w of the supernet.
    batch_stats: running statistics of BatchNorm, moved by the weight step only.
    alphas: logits {cell type: [E, O]}.
    edge_logits: {cell type: [E]} of PC-DARTS' edge normalisation; {} without.
    weight_optimizer_state: momentum of the weights.
    alpha_optimizer_state: moments of (alphas, edge_logits).
    sums: each of METRICS added up since the epoch began.
  """

  step: jax.Array
  seed: jax.Array
  params: Any
  batch_stats: Any
  alphas: Any
  edge_logits: Any
  weight_optimizer_state: Any
  alpha_optimizer_state: Any
  sums: dict[str, jax.Array]

  @classmethod
  def create(
    cls,
    variables: Mapping,
    alphas: dict[str, jax.Array],
    seed: int = 0,
    edge_logits: dict[str, jax.Array] | None = None,
  ) -> 'SearchState':
    """The state before the first step, from `supernet.init`, `space.init_alphas` and `relaxation.init_edge_logits`."""
    hyper, edge_logits = Hyperparameters(), edge_logits or {}
    return cls(
      step=jnp.zeros((), jnp.int32),
      seed=jnp.asarray(seed, jnp.uint32),
      params=variables['params'],
      batch_stats=variables['batch_stats'],
      alphas=alphas,
      edge_logits=edge_logits,
      weight_optimizer_state=weight_optimizer(hyper).init(variables['params']),
      alpha_optimizer_state=alpha_optimizer(hyper).init((alphas, edge_logits)),
      sums=zero_sums(jax.tree.leaves(alphas)[0].dtype),
    )

  @property
  def architecture(self) -> tuple[dict, dict]:
    """(alphas, edge_logits): the upper level."""
    return self.alphas, self.edge_logits

  @property
  def variables(self) -> dict[str, Any]:
    """What `supernet.apply` takes: the lower level."""
    return {'params': self.params, 'batch_stats': self.batch_stats}


def zero_sums(dtype=jnp.float32) -> dict[str, jax.Array]:
  """`SearchState.sums` at the beginning of an epoch."""
  return {name: jnp.zeros((), dtype) for name in METRICS}

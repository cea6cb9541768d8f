"""The state that a search carries from step to step."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from beta_darts_jax.method.optimizers import Hyperparameters, Optimizer, alpha_adam, weight_sgd

METRICS = ('train_loss', 'train_accuracy', 'alpha_loss', 'alpha_accuracy', 'beta_decay')


class SearchState(struct.PyTreeNode):
  """One search: both levels, their optimizers, and the number of steps taken.

  Attributes:
    step: [] int32, bilevel steps taken.
    seed: [] uint32. Every random number of the run is a function of (seed, step).
    params: tree of the supernet's weights w.
    batch_stats: running statistics of BatchNorm. Only the weight step updates them.
    alphas: {cell type: [E, O]} logits.
    edge_logits: {cell type: [E]} of the edge normalization of PC-DARTS, {} without it.
    weight_optimizer_state: optimizer state of the weights (momentum).
    alpha_optimizer_state: optimizer state of (alphas, edge_logits) (Adam's moments).
    sums: {name of METRICS: []}, each metric summed over the steps of the epoch so far.
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
    weight_optimizer: Optimizer = weight_sgd,
    alpha_optimizer: Optimizer = alpha_adam,
  ) -> 'SearchState':
    """Returns the state before the first step.

    Args:
      variables: from `supernet.init`.
      alphas: from `space.init_alphas`.
      seed: seed of every random number of the run.
      edge_logits: from `relaxation.init_edge_logits`.
      weight_optimizer, alpha_optimizer: those of `make_search_step`.
    """
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
      sums={name: jnp.zeros((), jax.tree.leaves(alphas)[0].dtype) for name in METRICS},
    )

  @property
  def architecture(self) -> tuple[dict, dict]:
    """(alphas, edge_logits): the upper level."""
    return self.alphas, self.edge_logits

  @property
  def variables(self) -> dict[str, Any]:
    """The variables of `supernet.apply`: the lower level."""
    return {'params': self.params, 'batch_stats': self.batch_stats}

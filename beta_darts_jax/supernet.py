"""The continuous network: every edge is the β-weighted sum of its candidate operations.

A pure function of (variables, images, betas); α never lives inside.
Legend: B batch, E edges, O candidate operations of an edge.
"""

import chex
import flax.linen as nn
import jax.numpy as jnp

from beta_darts_jax.operations import OPERATIONS
from beta_darts_jax.skeletons import SKELETONS
from beta_darts_jax.spaces import SearchSpace


class MixedOperation(nn.Module):
  """ō(x) = Σ_k β_k·o_k(x): [B, H, W, C] → [B, H, W, C]. `none` adds nothing, so it is not computed."""

  operations: tuple[str, ...]
  channels: int
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x, betas, train: bool):  # betas [O]
    total = jnp.zeros_like(x)
    for k, name in enumerate(self.operations):
      if name != 'none':
        operation = OPERATIONS[name](self.channels, False, self.dtype).clone(name=name, parent=self)
        total += betas[k].astype(x.dtype) * operation(x, train)
    return total


class SearchCell(nn.Module):
  """Nodes 0 … n of a cell: each sums the mixed edges that enter it; the last is the output."""

  space: SearchSpace
  channels: int
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x, betas, train: bool):  # betas [E, O]
    nodes = {0: x}
    for e, (target, source) in enumerate(self.space.edges):
      edge = MixedOperation(self.space.operations[e], self.channels, self.dtype, name=f'edge_{target}_{source}')
      y = edge(nodes[source], betas[e], train)
      nodes[target] = nodes[target] + y if target in nodes else y
    return nodes[target]


class Supernet(nn.Module):
  """The whole search space as one network.

  Attributes:
    space: what is searched.
    num_classes: size of the logits.
    channels: channels C of the first stage.
    cells_per_stage: N.
    dtype: of the computation (bfloat16 on accelerators); parameters, statistics, β and logits keep theirs.
  """

  space: SearchSpace
  num_classes: int
  channels: int = 16
  cells_per_stage: int = 5
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, images, betas, train: bool = False):
    """Logits [B, num_classes] of images [B, H, W, C] under betas {cell type: [E, O]}.

    With `train` BatchNorm uses the statistics of the batch and updates `batch_stats`.
    """
    chex.assert_rank(images, 4)
    cell_betas = [betas[cell_type] for cell_type in self.space.cell_types]
    chex.assert_shape(cell_betas, self.space.alpha_shape)
    skeleton = SKELETONS[self.space.skeleton](
      make_cell=lambda channels: SearchCell(self.space, channels, self.dtype),
      num_classes=self.num_classes,
      channels=self.channels,
      cells_per_stage=self.cells_per_stage,
      dtype=self.dtype,
      name='network',
    )
    return skeleton(images, *cell_betas, train=train)

"""One genotype as a trainable network.

Arrays are [B, H, W, C].
"""

import flax.linen as nn
import jax.numpy as jnp

from beta_darts_jax.genotype import Genotype
from beta_darts_jax.operations import OPERATIONS
from beta_darts_jax.skeletons import SKELETONS


class DiscreteCell(nn.Module):
  """Every edge is its one operation; a node sums its edges; the last node is the output."""

  genotype: Genotype
  channels: int
  affine: bool = True
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x, train: bool):
    nodes = [x]
    for target, node in enumerate(self.genotype.nodes, start=1):
      total = jnp.zeros_like(x)
      for name, source in node:
        operation = OPERATIONS[name](self.channels, self.affine, self.dtype)
        total += operation.clone(name=f'edge_{target}_{source}', parent=self)(nodes[source], train)
      nodes.append(total)
    return nodes[-1]


class NasBench201Network(nn.Module):
  """The network that NAS-Bench-201 trains for a cell.

  Attributes:
    genotype: a cell of NAS_BENCH_201.
    num_classes: size of the logits.
    channels: C of the first stage.
    cells_per_stage: N.
    affine: BatchNorm of the cells has scale and bias (False: as in the supernet).
    dtype: of the computation.
  """

  genotype: Genotype
  num_classes: int
  channels: int = 16
  cells_per_stage: int = 5
  affine: bool = True
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, images, train: bool = False):
    """Logits [B, num_classes] of images [B, H, W, C]."""
    return SKELETONS['nas_bench_201'](
      make_cell=lambda channels: DiscreteCell(self.genotype, channels, self.affine, self.dtype),
      num_classes=self.num_classes,
      channels=self.channels,
      cells_per_stage=self.cells_per_stage,
      dtype=self.dtype,
      name='network',
    )(images, train=train)

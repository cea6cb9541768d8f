"""The trainable network of a genotype.

Arrays are [B, H, W, C]: batch, height, width, channels.
"""

import flax.linen as nn
import jax.numpy as jnp

from beta_darts_jax.networks.initialization import Module
from beta_darts_jax.networks.layers import BatchNorm, drop_path
from beta_darts_jax.networks.operations import OPERATIONS, known_operations
from beta_darts_jax.networks.plan import edge_stride
from beta_darts_jax.networks.skeletons import SKELETONS, MakeCell
from beta_darts_jax.spaces.genotype import Cell, Genotype


class DiscreteCell(Module):
  """A cell whose edges have one operation each; a node sums the edges that enter it."""

  cell: Cell
  cell_type: str  # the edges from the inputs of a 'reduce' cell have stride 2
  channels: int  # C of each node
  affine: bool = True  # of batch normalization; False is as in the supernet, which also normalizes pools
  auxiliary_skip: bool = False  # every edge also adds a skip connection
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, inputs, drop_path_rate=None, *, train: bool):
    """Returns the concatenation of the nodes `cell.concat`, or the last node if it is empty.

    `inputs` are one or two arrays [B, H, W, C]. In training, `drop_path_rate` applies to every edge that is not an
    identity and needs the stream 'draw'; None turns drop path off.
    """
    nodes = list(inputs)
    for target, node in enumerate(self.cell.nodes, start=len(inputs)):
      edges = [
        self._edge(f'edge_{target}_{k}', name, source, nodes[source], drop_path_rate, train)
        for k, (name, source) in enumerate(node)
      ]
      nodes.append(sum(edges[1:], edges[0]))
    return jnp.concatenate([nodes[i] for i in self.cell.concat], axis=-1) if self.cell.concat else nodes[-1]

  def _edge(self, edge, name, source, x, rate, train):
    """Applies the operation `name` to node `source`, whose value is x; `edge` is the name of its variables."""
    stride = edge_stride(self.cell_type, source, self.cell.num_inputs)
    y = self._operation(name, stride, edge)(x, train)
    if 'pool' in name and not self.affine and self.cell.concat:
      y = BatchNorm(affine=False, dtype=self.dtype, name=f'{edge}_batch_norm')(y, train)
    if train and rate is not None and not (name == 'skip_connect' and stride == 1):
      y = drop_path(self.make_rng('draw'), y, rate)
    if self.auxiliary_skip:
      y += self._operation('skip_connect', stride, f'{edge}_auxiliary_skip')(x, train)
    return y

  def _operation(self, candidate, stride, name):
    operation = OPERATIONS[candidate](channels=self.channels, stride=stride, affine=self.affine, dtype=self.dtype)
    return operation.clone(name=name, parent=self)


class Network(Module):
  """The network of the DARTS family for a genotype with a normal and a reduction cell.

  Attributes:
    genotype: the cells.
    num_classes: number of logits.
    channels: C of the first cells.
    layers: number of cells.
    stem: 'cifar' or 'imagenet'.
    auxiliary: training also returns the logits of an auxiliary head.
    affine, auxiliary_skip: see DiscreteCell.
    dtype: dtype of the computation; None is that of the parameters.

  Raises:
    InputError: an operation is unknown.

  Example:
    >>> import jax
    >>> from beta_darts_jax.spaces.published import PUBLISHED
    >>> network, images = Network(PUBLISHED['DARTS_V2'], num_classes=10, layers=2), jnp.zeros((4, 32, 32, 3))
    >>> variables = jax.eval_shape(network.init, jax.random.key(0), images)  # shapes alone: nothing is compiled
    >>> jax.eval_shape(network.apply, variables, images).shape
    (4, 10)
  """

  genotype: Genotype
  num_classes: int
  channels: int = 36
  layers: int = 20
  stem: str = 'cifar'
  auxiliary: bool = False
  affine: bool = True
  auxiliary_skip: bool = False
  dtype: jnp.dtype | None = None

  def __post_init__(self):
    known_operations(self.genotype.normal.operations + self.genotype.reduce.operations)
    super().__post_init__()

  @nn.compact
  def __call__(self, images, drop_path_rate=None, *, train: bool = False):
    """Computes logits [B, num_classes] of images [B, H, W, C]; with `auxiliary`, training gives (logits, auxiliary).

    Drop path at the rate `drop_path_rate`, and cells with noise, need `rngs={'draw': key}`.
    """
    skeleton = SKELETONS['darts'](
      make_cell=_cell_maker(self, {'normal': self.genotype.normal, 'reduce': self.genotype.reduce}),
      num_classes=self.num_classes,
      channels=self.channels,
      depth=self.layers,
      affine=self.affine,
      stem=self.stem,
      auxiliary=self.auxiliary,
      dtype=self.dtype,
      name='network',
    )
    return skeleton(images, *_cell_arguments(drop_path_rate), train=train)


class NasBench201Network(Module):
  """The network that NAS-Bench-201 trains for a cell.

  Attributes:
    genotype: the cell.
    num_classes: number of logits.
    channels: C of the first stage.
    cells_per_stage: N.
    affine, auxiliary_skip: see DiscreteCell.
    dtype: dtype of the computation; None is that of the parameters.

  Raises:
    InputError: an operation is unknown.
  """

  genotype: Genotype
  num_classes: int
  channels: int = 16
  cells_per_stage: int = 5
  affine: bool = True
  auxiliary_skip: bool = False
  dtype: jnp.dtype | None = None

  def __post_init__(self):
    known_operations(self.genotype.normal.operations)
    super().__post_init__()

  @nn.compact
  def __call__(self, images, drop_path_rate=None, *, train: bool = False):
    """Computes logits [B, num_classes] of images [B, H, W, C]; see Network for `drop_path_rate`."""
    skeleton = SKELETONS['nas_bench_201'](
      make_cell=_cell_maker(self, {'cell': self.genotype.normal}),
      num_classes=self.num_classes,
      channels=self.channels,
      depth=self.cells_per_stage,
      dtype=self.dtype,
      name='network',
    )
    return skeleton(images, *_cell_arguments(drop_path_rate), train=train)


def _cell_maker(network: Network | NasBench201Network, cells: dict[str, Cell]) -> MakeCell:
  """Returns the `make_cell` of the skeleton."""

  def make_cell(cell_type: str, channels: int) -> DiscreteCell:
    return DiscreteCell(
      cell=cells[cell_type],
      cell_type=cell_type,
      channels=channels,
      affine=network.affine,
      auxiliary_skip=network.auxiliary_skip,
      dtype=network.dtype,
    )

  return make_cell


def _cell_arguments(drop_path_rate) -> tuple:
  """Returns the arguments that a skeleton passes to its cells. They must be arrays, so a rate of None is left out."""
  return () if drop_path_rate is None else (drop_path_rate,)

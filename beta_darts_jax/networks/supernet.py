"""The continuous network: every edge is the β-weighted sum of its candidate operations.

A pure function of (variables, images, betas); α never lives inside.

Legend: B batch, H and W height and width, C channels, E edges, O candidate operations of an edge.
"""

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from beta_darts_jax.errors import InputError
from beta_darts_jax.networks.initialization import Module
from beta_darts_jax.networks.layers import scanned
from beta_darts_jax.networks.mixed_operation import MixedOperation
from beta_darts_jax.networks.mobile.skeleton import MobileSkeleton, PlannedStage, check_channels
from beta_darts_jax.networks.mobile.stages import SearchStage
from beta_darts_jax.networks.operations import known_operations
from beta_darts_jax.networks.plan import equal_edges
from beta_darts_jax.networks.skeletons import SKELETONS
from beta_darts_jax.networks.unrolled import unrolled_nodes
from beta_darts_jax.spaces.space import SearchSpace


class SearchCell(Module):
  """A cell of the supernet: each node sums the mixed operations of the edges that enter it.

  Equal edges share one set of variables with a leading axis, `edges_FIRST`, named by the first of them.
  """

  space: SearchSpace
  cell_type: str  # one of `space.cell_types`; the edges from the inputs of a 'reduce' cell have stride 2
  channels: int  # C of each node
  unroll: bool = False  # this and the next four: see Supernet
  partial_channels: int = 1
  single_path: bool = False
  paths: int = 1
  undrawn_gradient: bool = False
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, inputs, betas, train: bool):
    """Concatenates the output nodes, or returns the last node, for inputs [B, H, W, C] and {cell type: [E, O]}."""
    own = betas[self.cell_type]
    self.sow('intermediates', self.cell_type, own, reduce_fn=lambda _, last: last, init_fn=lambda: None)
    if self.has_variable('offsets', self.cell_type):
      own += self.get_variable('offsets', self.cell_type)
    auxiliary_skip = 1.0 if self.space.auxiliary_skip else betas.get('auxiliary_skip')
    compute_nodes = unrolled_nodes if self.unroll and not self.is_initializing() else scanned_nodes
    nodes = compute_nodes(self, inputs, own, train, auxiliary_skip)
    return jnp.concatenate([nodes[i] for i in self.space.concat], axis=-1) if self.space.concat else nodes[-1]

  def mixed_operation(self, operations: tuple[str, ...], stride: int, **kwargs) -> MixedOperation:
    """Returns the module of an edge; `kwargs` are its name or parent."""
    return MixedOperation(
      operations=operations,
      channels=self.channels,
      stride=stride,
      normalize_pools=self.space.skeleton == 'darts',
      channel_divisor=self.partial_channels,
      single_path=self.single_path,
      paths=self.paths,
      undrawn_gradient=self.undrawn_gradient,
      dtype=self.dtype,
      **kwargs,
    )


def scanned_nodes(cell: SearchCell, inputs, betas, train: bool, auxiliary_skip) -> jax.Array:
  """Computes the nodes [I, B, H, W, C] of a cell; equal edges are one loop body, compiled once.

  The arguments are those of `unrolled.unrolled_nodes`.
  """
  space, inputs = cell.space, jnp.stack(inputs)
  stride = 2 if cell.cell_type == 'reduce' else 1
  size = inputs[:, :, ::stride, ::stride].shape[1:]
  nodes = jnp.zeros((space.num_inputs + space.nodes, *size), inputs.dtype)
  if stride == 1:
    nodes = nodes.at[: space.num_inputs].set(inputs)

  def apply(operation, x, weights):
    return operation(x, train, weights, auxiliary_skip)

  # The backward pass computes each edge again. On CPU this is faster than keeping results, because XLA fills their
  # buffers with zeros first. A step needs a quarter of the memory.
  rematerialized = nn.remat(apply, prevent_cse=False)
  for stride, edges in equal_edges(space, cell.cell_type):
    operation = cell.mixed_operation(space.candidates(cell.cell_type)[edges[0]], stride, name=f'edges_{edges[0]}')

    def add_edge(operation, nodes, edge, stride=stride):
      target, source, weights = edge
      y = rematerialized(operation, (inputs if stride == 2 else nodes)[source], weights)
      return nodes.at[target].add(y), None

    targets, sources = (np.array(ends) for ends in zip(*(space.edges[e] for e in edges), strict=True))
    if len(edges) == 1:
      nodes, _ = add_edge(operation, nodes, (targets[0], sources[0], betas[edges[0]]))
    else:
      nodes, _ = scanned(add_edge, len(edges), over=0)(operation, nodes, (targets, sources, betas[np.array(edges)]))
  return nodes


class Supernet(Module):
  """The whole search space as one network.

  Attributes:
    space: the search space.
    num_classes: number of logits.
    channels: C of the first stage. The stages of the skeleton 'mobile' have 1.5, 2, 4, 6, 10 and 20 times C, and C = 16
      gives the widths of MobileNetV2 1.0.
    cells_per_stage: N of the skeleton 'nas_bench_201'.
    layers: number of cells of the skeleton 'darts'.
    stem: stem of the skeleton 'darts': 'cifar' is one 3×3 convolution, 'imagenet' is three of stride 2. Both have 3·C
      channels, as in DARTS and in PC-DARTS.
    unroll: compiles every cell and edge separately, instead of one loop body for equal ones. On CPU a step is twice as
      fast, and compilation takes more than twice as long, in the DARTS family many times. The variables are the same.
    partial_channels: `channel_divisor` of MixedOperation; 1 in the skeleton 'mobile'.
    single_path, paths, undrawn_gradient: see MixedOperation.
    dtype: dtype of the computation, such as bfloat16 on accelerators. Parameters, statistics, β and logits keep theirs.

  Raises:
    InputError: an operation of the space is unknown, or partial_channels does not divide the channels. In the skeleton
      'mobile' also: C is odd, partial_channels is not 1, or a call has auxiliary skips.

  Example:
    >>> from beta_darts_jax.spaces.space import NAS_BENCH_201, softmax_betas
    >>> supernet = Supernet(NAS_BENCH_201, num_classes=10)  # of the official size
    >>> betas = softmax_betas(NAS_BENCH_201.init_alphas(jax.random.key(0)))
    >>> variables = jax.eval_shape(supernet.init, jax.random.key(1), jnp.zeros((2, 32, 32, 3)), betas)
    >>> sum(x.size for x in jax.tree.leaves(variables['params']))
    1686106
  """

  space: SearchSpace
  num_classes: int
  channels: int = 16
  cells_per_stage: int = 5
  layers: int = 8
  stem: str = 'cifar'
  unroll: bool = False
  partial_channels: int = 1
  single_path: bool = False
  paths: int = 1
  undrawn_gradient: bool = False
  dtype: jnp.dtype | None = None

  def __post_init__(self):
    known_operations(self.space.operation_names)
    if self.space.is_chain:
      check_channels(self.channels)
      if self.partial_channels > 1:
        raise InputError(f'partial_channels={self.partial_channels}: expected 1 in a space without cells')
    if self.channels % self.partial_channels:
      raise InputError(f'partial_channels={self.partial_channels}: expected a divisor of the channels, {self.channels}')
    super().__post_init__()

  @nn.compact
  def __call__(self, images, betas, train: bool = False):
    """Computes logits [B, num_classes].

    Args:
      images: [B, H, W, C].
      betas: {cell type: [E, O]}. A scalar betas['auxiliary_skip'] is the weight of a skip connection in parallel to
        every edge. If the space itself has such skip connections, their weight is 1.
      train: batch normalization uses the statistics of the batch and updates 'batch_stats'.

    A space whose operations draw random numbers (the noise of S4) needs `rngs={'draw': key}`. Pass the collection
    'offsets' to add a tensor to each cell's β. Its tree is that of 'intermediates'.
    """
    chex.assert_rank(images, 4)
    shapes = self.space.alpha_shapes
    chex.assert_shape([betas[cell_type] for cell_type in shapes], list(shapes.values()))
    names = ('space', 'unroll', 'single_path', 'paths', 'undrawn_gradient', 'dtype')
    options: dict[str, Any] = {name: getattr(self, name) for name in names}
    sizes: dict[str, Any] = {'num_classes': self.num_classes, 'channels': self.channels, 'dtype': self.dtype}

    def make_stage(stage: PlannedStage) -> SearchStage:
      return SearchStage(stage=stage, **options)

    def make_cell(cell_type: str, channels: int) -> SearchCell:
      return SearchCell(cell_type=cell_type, channels=channels, partial_channels=self.partial_channels, **options)

    if self.space.is_chain:
      return MobileSkeleton(make_stage, **sizes, name='network')(images, betas, train=train)
    skeleton = SKELETONS[self.space.skeleton](
      make_cell=make_cell,
      depth=getattr(self, self.space.depth_field),
      unroll=self.unroll,
      **sizes,
      name='network',
      **({'affine': False, 'stem': self.stem, 'stem_width': 3} if self.space.skeleton == 'darts' else {}),
    )
    return skeleton(images, betas, train=train)

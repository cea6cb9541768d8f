"""The continuous network: every edge is the β-weighted sum of its candidate operations.

A pure function of (variables, images, betas); α never lives inside.
Legend: B batch, E edges, O candidate operations of an edge.
"""

import functools
import itertools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from beta_darts_jax.errors import InputError
from beta_darts_jax.networks.initialization import Module
from beta_darts_jax.networks.kernels import no_refusion
from beta_darts_jax.networks.layers import BatchNorm
from beta_darts_jax.networks.operations import OPERATIONS, known_operations, scale
from beta_darts_jax.networks.skeletons import SKELETONS, scanned
from beta_darts_jax.spaces.space import SearchSpace


class MixedOperation(Module):
  """ō(x) = Σ_k β_k·o_k(x): [B, H, W, C] → [B, H/stride, W/stride, C]. `none` adds nothing, so it is not computed.

  Attributes:
    operations: O names.
    channels: C.
    stride: of every operation.
    normalize_pools: BatchNorm without affine after pooling operations (the DARTS family).
    parts: K of PC-DARTS (Xu et al., ICLR 2020): the operations see the first C/K channels; the others pass by, times
      Σ_k β_k (the weight of the edge), 2×2-max-pooled where the stride is 2; then the channels are shuffled.
    sampled: only the operation of the largest β is computed in training, as in GDAS (Dong and Yang, CVPR 2019).
    dtype: of the computation.
  """

  operations: tuple[str, ...]
  channels: int
  stride: int = 1
  normalize_pools: bool = False
  parts: int = 1
  sampled: bool = False
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x, train: bool, betas, auxiliary_skip=None):  # betas [O]; weight of a skip connection beside them
    part = self.channels // self.parts
    y = self._mixed(x[..., :part], train, betas)
    if auxiliary_skip is not None:
      y += self._operation('skip_connect', 'auxiliary_skip')(x[..., :part], train, auxiliary_skip)
    if self.parts == 1:
      return y
    others = nn.max_pool(x, (2, 2), (2, 2)) if self.stride == 2 else x
    return shuffled(jnp.concatenate([y, scale(jnp.sum(betas), others[..., part:])], axis=-1), self.parts)

  def _operation(self, candidate, name):
    """A function of (x, train, weight)."""
    operation = OPERATIONS[candidate](
      channels=self.channels // self.parts, stride=self.stride, affine=False, dtype=self.dtype
    )
    operation = operation.clone(name=name, parent=self)
    if not (self.normalize_pools and 'pool' in candidate):
      return operation
    normalize = BatchNorm(affine=False, dtype=self.dtype, name=f'{name}_batch_norm', parent=self)
    return lambda x, train, weight: normalize(operation(x, train), train, weight)

  def _mixed(self, x, train, betas):
    total = jnp.zeros_like(x[:, :: self.stride, :: self.stride])
    if self.sampled and train and not self.is_initializing():

      def branch(mixed, x, betas, k=0):
        name = mixed.operations[k]
        return total if name == 'none' else mixed._operation(name, name)(x, train, betas[k])

      branches = [functools.partial(branch, k=k) for k in range(len(self.operations))]
      return nn.switch(jnp.argmax(betas), branches, self, x, betas)
    for k, name in enumerate(self.operations):
      if name != 'none':
        total += self._operation(name, name)(x, train, betas[k])
    return total


def shuffled(x, groups: int):
  """Channels [g₀…, g₁…, …] of [..., C] interleaved, one of each group in turn (ShuffleNet, Zhang et al., 2018)."""
  grouped = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
  return jnp.swapaxes(grouped, -1, -2).reshape(x.shape)


class SearchCell(Module):
  """A cell of the supernet: each node sums the mixed edges that enter it.

  Edges that are alike have their variables together: `edges_FIRST` names a run of edges by its first, and its variables
  have a leading axis.

  Attributes:
    space: the edges and their operations.
    cell_type: one of `space.cell_types`; the edges from the inputs of a 'reduce' cell have stride 2.
    channels: C of each node.
    unroll, partial_channels, sampled: see Supernet.
    dtype: of the computation.
  """

  space: SearchSpace
  cell_type: str
  channels: int
  unroll: bool = False
  partial_channels: int = 1
  sampled: bool = False
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, inputs, betas, train: bool):  # inputs: [B, H, W, C] each; betas {cell type: [E, O]}
    own = betas[self.cell_type]
    self.sow('intermediates', self.cell_type, own, reduce_fn=lambda _, last: last, init_fn=lambda: None)
    if self.has_variable('offsets', self.cell_type):
      own += self.get_variable('offsets', self.cell_type)
    compute = self._unrolled if self.unroll and not self.is_initializing() else self._scanned
    nodes = compute(inputs, own, train, 1.0 if self.space.auxiliary_skip else betas.get('auxiliary_skip'))
    return jnp.concatenate([nodes[i] for i in self.space.concat], axis=-1) if self.space.concat else nodes[-1]

  def _mixed(self, operations, stride, **name):
    pools = self.space.skeleton == 'darts'
    return MixedOperation(
      operations, self.channels, stride, pools, self.partial_channels, self.sampled, self.dtype, **name
    )

  def _scanned(self, inputs, betas, train, auxiliary_skip):
    """The nodes [I, B, H, W, C]: every run of edges is one body, compiled once."""
    space, inputs = self.space, jnp.stack(inputs)
    stride = 2 if self.cell_type == 'reduce' else 1
    size = inputs[:, :, ::stride, ::stride].shape[1:]
    nodes = jnp.zeros((space.num_inputs + space.nodes, *size), inputs.dtype)
    if stride == 1:
      nodes = nodes.at[: space.num_inputs].set(inputs)

    for stride, edges in equal_edges(space, self.cell_type):
      operation = self._mixed(space.candidates(self.cell_type)[edges[0]], stride, name=f'edges_{edges[0]}')

      def add_edge(operation, nodes, edge, stride=stride):
        target, source, weights = edge
        y = operation((inputs if stride == 2 else nodes)[source], train, weights, auxiliary_skip)
        return nodes.at[target].add(y), None

      targets, sources = (np.array(ends) for ends in zip(*(space.edges[e] for e in edges), strict=True))
      if len(edges) == 1:
        nodes, _ = add_edge(operation, nodes, (targets[0], sources[0], betas[edges[0]]))
      else:
        nodes, _ = scanned(add_edge, len(edges), over=0)(operation, nodes, (targets, sources, betas[np.array(edges)]))
    return nodes

  def _unrolled(self, inputs, betas, train, auxiliary_skip):
    """The same nodes, one after the other: each ends with what enters it and begins what leaves it.

    What is linear acts once a node, Σ β·pool(x) = pool(Σ β·x); plain convolutions that leave a node are one wide one.
    """
    space, nodes = self.space, list(inputs)
    variables = self._variables_by_edge()
    changed = [{c: {} for c in of_edge if self.is_mutable_collection(c)} for of_edge in variables]
    totals, linear = [0] * (space.num_inputs + space.nodes), [{} for _ in range(space.num_inputs + space.nodes)]

    apart = self.partial_channels > 1 or self.sampled  # what an edge does with its operations is its own

    def act(operation, variables, weights, *more):
      mutable = [c for c in variables if self.is_mutable_collection(c)]
      rngs = {'draw': self.make_rng('draw')} if self.has_rng('draw') else None
      return operation.apply(variables, x, train, weights, *more, mutable=mutable, rngs=rngs)

    for node in range(len(totals)):
      if node >= space.num_inputs:
        for name, x in linear[node].items():
          x = x if name == 'skip_connect' else no_refusion(x, betas[0, 0])
          totals[node] += OPERATIONS[name](channels=self.channels, stride=1, affine=False, dtype=self.dtype).apply(
            {}, x, train
          )
        nodes.append(no_refusion(totals[node], betas[0, 0]))
      x, wide = nodes[node], {}
      stride = 2 if self.cell_type == 'reduce' and node < space.num_inputs else 1
      for e, (target, source) in enumerate(space.edges):
        if source == node:
          names, rest = space.candidates(self.cell_type)[e], []
          for k, name in enumerate(names):
            if name in LINEAR[space.skeleton] and stride == 1 and not apart:
              linear[target][name] = linear[target].get(name, 0) + scale(betas[e, k], x)
            elif name in WIDE and stride == 1 and not apart:
              wide.setdefault(name, []).append((e, k))
            else:
              rest.append(k)
          mixed = self._mixed(tuple(names[k] for k in rest), stride, parent=None)
          y, updates = act(mixed, variables[e], betas[e, np.array(rest, int)], auxiliary_skip)
          totals[target] += y
          for c in updates:
            changed[e][c] |= updates[c]

      for name, places in wide.items():
        operation = OPERATIONS[name](channels=self.channels * len(places), stride=1, affine=False, dtype=self.dtype)
        of_edges = [{c: of_name[name] for c, of_name in variables[e].items()} for e, _ in places]
        side_by_side = jax.tree.map(lambda *x: jnp.concatenate(x, -1), *of_edges)
        weights = jnp.repeat(jnp.stack([betas[place] for place in places]), self.channels)
        for (e, _), (y, updates) in zip(
          places, _apart(act(operation, side_by_side, weights), len(places)), strict=True
        ):
          totals[space.edges[e][0]] += y
          for c in updates:
            changed[e][c][name] = updates[c]

    for _, edges in equal_edges(space, self.cell_type):
      for collection in changed[edges[0]]:
        leaves = [changed[e][collection] for e in edges]
        stacked = jax.tree.map(lambda *x: jnp.stack(x), *leaves) if len(edges) > 1 else leaves[0]
        self.put_variable(collection, f'edges_{edges[0]}', stacked)
    return nodes

  def _variables_by_edge(self):
    """[{collection: variables of the edge}], by row of α."""
    variables = [None] * len(self.space.edges)
    for _, edges in equal_edges(self.space, self.cell_type):
      name = f'edges_{edges[0]}'
      run = {c: self.get_variable(c, name) for c in ('params', 'batch_stats') if self.has_variable(c, name)}
      for i, e in enumerate(edges):
        variables[e] = jax.tree.map(lambda x, i=i: x[i], run) if len(edges) > 1 else run
    return variables


def _apart(tree, parts):
  """[tree of each part] of arrays whose last axis is so many parts side by side."""
  leaves, structure = jax.tree.flatten(tree)
  return [structure.unflatten(of_part) for of_part in zip(*(jnp.split(x, parts, -1) for x in leaves), strict=True)]


# operations without weights or statistics, by skeleton (in the DARTS family pools have a BatchNorm)
LINEAR = {'nas_bench_201': ('skip_connect', 'avg_pool_3x3'), 'darts': ('skip_connect',)}


# operations whose every variable has the output channels last: several edges' are one of as many channels
WIDE = ('nor_conv_1x1', 'nor_conv_3x3')


def equal_edges(space: SearchSpace, cell_type: str) -> list[tuple[int, list[int]]]:
  """[(stride, rows of α)]: the edges in an order that respects the nodes, alike and neighbouring ones together."""
  stride = lambda e: 2 if cell_type == 'reduce' and space.edges[e][1] < space.num_inputs else 1
  order = sorted(range(len(space.edges)), key=stride, reverse=True)  # from the inputs first: they need no node
  kind = lambda e: (stride(e), space.candidates(cell_type)[e])
  return [(kind[0], list(edges)) for kind, edges in itertools.groupby(order, key=kind)]


class Supernet(Module):
  """The whole search space as one network.

  Attributes:
    space: what is searched.
    num_classes: size of the logits.
    channels: channels C of the first stage.
    cells_per_stage: N, of the skeleton 'nas_bench_201'.
    layers: cells, of the skeleton 'darts'.
    unroll: compiles every cell and edge by itself, instead of one body for those alike: on CPU twice as fast a
      step, more than twice as long to compile (in the DARTS family many times). The variables are the same.
    partial_channels, sampled: MixedOperation's `parts` and `sampled`.
    dtype: of the computation (bfloat16 on accelerators); parameters, statistics, β and logits keep theirs.

  Raises:
    InputError: an operation of the space is not known, or partial_channels does not divide the channels.

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
  unroll: bool = False
  partial_channels: int = 1
  sampled: bool = False
  dtype: jnp.dtype | None = None

  def __post_init__(self):
    known_operations(self.space.operation_names)
    if self.channels % self.partial_channels:
      raise InputError(f'{self.partial_channels} parts of {self.channels} channels: allowed are divisors')
    super().__post_init__()

  @nn.compact
  def __call__(self, images, betas, train: bool = False):
    """Logits [B, num_classes] of images [B, H, W, C] under betas {cell type: [E, O]}.

    With `train` BatchNorm uses the statistics of the batch and updates `batch_stats`. A space whose operations draw
    (S4's noise) needs `rngs={'draw': key}`. A scalar betas['auxiliary_skip'] is the weight of a skip connection beside
    every edge (where the space has one, its weight is 1). What each cell adds to its β can be given as the collection
    'offsets', of the tree that the collection 'intermediates' comes out as: see losses.make_cell_gradients.
    """
    chex.assert_rank(images, 4)
    chex.assert_shape([betas[cell_type] for cell_type in self.space.cell_types], self.space.alpha_shape)
    skeleton = SKELETONS[self.space.skeleton](
      make_cell=lambda cell_type, channels: SearchCell(
        self.space, cell_type, channels, self.unroll, self.partial_channels, self.sampled, self.dtype
      ),
      num_classes=self.num_classes,
      channels=self.channels,
      depth=self.cells_per_stage if self.space.skeleton == 'nas_bench_201' else self.layers,
      affine=False,
      unroll=self.unroll,
      dtype=self.dtype,
      name='network',
    )
    return skeleton(images, betas, train=train)

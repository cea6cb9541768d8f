"""The fused evaluation of a cell of the supernet, for programs that compile every edge separately.

It gives the same nodes as supernet.scanned_nodes, with fewer and larger operations:
- an operation without weights acts once per node, not once per edge: Σ β·pool(x) = pool(Σ β·x);
- the equal plain convolutions that leave a node are merged into one with all their output channels.

Legend: E edges (rows of α), O candidate operations of an edge.
"""

import collections
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from beta_darts_jax.networks.kernels.platform import no_refusion
from beta_darts_jax.networks.operations import OPERATIONS, scale
from beta_darts_jax.networks.plan import edge_stride, equal_edges

if TYPE_CHECKING:
  from beta_darts_jax.networks.supernet import SearchCell

# skeleton → operations without weights and statistics; in the DARTS family a BatchNorm follows every pool
WEIGHT_FREE = {'nas_bench_201': ('skip_connect', 'avg_pool_3x3'), 'darts': ('skip_connect',)}

# operations whose variables all have the output channels last, so that those of several edges can be concatenated
MERGEABLE = ('nor_conv_1x1', 'nor_conv_3x3')

Variables = dict[str, Any]  # collection → the variables of one edge


class Candidate(NamedTuple):
  """One candidate operation of one edge, as its place in β."""

  edge: int
  operation: int


def unrolled_nodes(cell: 'SearchCell', inputs, betas, train: bool, auxiliary_skip) -> list[jax.Array]:
  """Computes the nodes of a cell in order, and stores the new running statistics in the cell.

  `cell` is bound and has its variables, `inputs` are one or two arrays [B, H, W, C], and `betas` are [E, O].
  `auxiliary_skip` is the weight of a skip connection in parallel to every edge, or None. Returns the inputs, then the
  nodes [B, H', W', C].
  """
  evaluation = Evaluation(cell, betas, train, auxiliary_skip)
  nodes = list(inputs)
  for node in range(cell.space.num_inputs + cell.space.nodes):
    if node >= cell.space.num_inputs:
      evaluation.apply_weight_free(node)
      nodes.append(no_refusion(evaluation.totals[node], evaluation.betas[0][0]))
    mergeable = evaluation.apply_edges(node, nodes[node])
    evaluation.apply_merged_convolutions(nodes[node], mergeable)
  evaluation.store_updates()
  return nodes


class Evaluation:
  """The passes over a cell, with the results so far."""

  def __init__(self, cell: 'SearchCell', betas, train: bool, auxiliary_skip):
    self.cell, self.train, self.auxiliary_skip = cell, train, auxiliary_skip
    # Scalars. The gradient of jnp.unstack is one operation. The gradient of indexing is one for each e and k.
    self.betas = [jnp.unstack(row) for row in jnp.unstack(betas)]
    num_nodes = cell.space.num_inputs + cell.space.nodes
    self.variables = edge_variables(cell)
    # for each edge, collection → the new variables
    self.updates: list[Variables] = [
      {c: {} for c in of_edge if cell.is_mutable_collection(c)} for of_edge in self.variables
    ]
    # for each node, the sum of the edges that have been applied
    self.totals: list[Any] = [0] * num_nodes
    # for each node, operation → the β-weighted sum of the nodes on which the operation will act
    self.weight_free_inputs: list[dict[str, jax.Array]] = [{} for _ in range(num_nodes)]

  def act(self, x, operation, variables: Variables, *weights):
    """Applies a detached operation to x; returns (its output, its new variables)."""
    mutable = [c for c in variables if self.cell.is_mutable_collection(c)]
    rngs = {'draw': self.cell.make_rng('draw')} if self.cell.has_rng('draw') else None
    return operation.apply(variables, x, self.train, *weights, mutable=mutable, rngs=rngs)

  def apply_weight_free(self, node: int) -> None:
    """Adds the operations without weights that enter `node`, each applied once to the sum of its inputs."""
    for name, x in self.weight_free_inputs[node].items():
      x = x if name == 'skip_connect' else no_refusion(x, self.betas[0][0])
      self.totals[node] += self._operation(name, self.cell.channels).apply({}, x, self.train)

  def apply_edges(self, node: int, x) -> dict[str, list[Candidate]]:
    """Applies the edges that leave `node`, whose value is x.

    Operations without weights are only collected, as inputs of `apply_weight_free`. Returns operation → the candidates
    that are left for `apply_merged_convolutions`.
    """
    cell, mergeable = self.cell, collections.defaultdict(list)
    stride = edge_stride(cell.cell_type, source=node, num_inputs=cell.space.num_inputs)
    separate = stride != 1 or cell.partial_channels > 1 or cell.single_path  # such edges share nothing
    for e, (target, source) in enumerate(cell.space.edges):
      if source != node:
        continue
      names, rest = cell.space.candidates(cell.cell_type)[e], []
      for k, name in enumerate(names):
        if not separate and name in WEIGHT_FREE[cell.space.skeleton]:
          inputs = self.weight_free_inputs[target]
          inputs[name] = inputs.get(name, 0) + scale(self.betas[e][k], x)
        elif not separate and name in MERGEABLE:
          mergeable[name].append(Candidate(edge=e, operation=k))
        else:
          rest.append(k)
      weights = jnp.array([self.betas[e][k] for k in rest], self.betas[e][0].dtype)
      self._apply_mixed(x, e, [names[k] for k in rest], stride, weights)
    return mergeable

  def _apply_mixed(self, x, edge: int, names: list[str], stride: int, weights) -> None:
    """Adds Σ β·operation(x) of one edge to its target."""
    mixed = self.cell.mixed_operation(tuple(names), stride, parent=None)
    y, updates = self.act(x, mixed, self.variables[edge], weights, self.auxiliary_skip)
    self.totals[self.cell.space.edges[edge][0]] += y
    for collection in updates:
      self.updates[edge][collection] |= updates[collection]

  def apply_merged_convolutions(self, x, mergeable: dict[str, list[Candidate]]) -> None:
    """Applies to x each list of equal convolutions as one, and adds the parts of its output to their targets."""
    for name, candidates in mergeable.items():
      operation = self._operation(name, self.cell.channels * len(candidates))
      edge_trees = [{c: tree[name] for c, tree in self.variables[e].items()} for e, _ in candidates]
      merged = jax.tree.map(lambda *arrays: jnp.concatenate(arrays, -1), *edge_trees)
      weights = jnp.repeat(jnp.stack([self.betas[e][k] for e, k in candidates]), self.cell.channels)
      parts = split_channels(self.act(x, operation, merged, weights), len(candidates))
      for (e, _), (y, updates) in zip(candidates, parts, strict=True):
        self.totals[self.cell.space.edges[e][0]] += y
        for collection in updates:
          self.updates[e][collection][name] = updates[collection]

  def store_updates(self) -> None:
    """Puts the new variables into the cell; those of equal edges are stacked again."""
    for _, edges in equal_edges(self.cell.space, self.cell.cell_type):
      for collection in self.updates[edges[0]]:
        trees = [self.updates[e][collection] for e in edges]
        stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *trees) if len(edges) > 1 else trees[0]
        self.cell.put_variable(collection, f'edges_{edges[0]}', stacked)

  def _operation(self, name: str, channels: int):
    return OPERATIONS[name](channels=channels, stride=1, affine=False, dtype=self.cell.dtype)


def edge_variables(cell: 'SearchCell') -> list[Variables]:
  """Returns the variables of each edge; in the cell, those of equal edges are stacked along a leading axis."""
  variables: list[Variables] = [{} for _ in cell.space.edges]
  for _, edges in equal_edges(cell.space, cell.cell_type):
    name = f'edges_{edges[0]}'
    stacked: Variables = {
      c: cell.get_variable(c, name) for c in ('params', 'batch_stats') if cell.has_variable(c, name)
    }
    of_edges = unstack(stacked, len(edges)) if len(edges) > 1 else [stacked]
    for e, of_edge in zip(edges, of_edges, strict=True):
      variables[e] = of_edge
  return variables


def unstack(tree, length: int) -> list:
  """Splits every array of a tree along its first axis, which has this length: one tree for each place."""
  leaves, structure = jax.tree.flatten(tree)
  parts = [jnp.unstack(x) for x in leaves]
  return [jax.tree.unflatten(structure, [part[i] for part in parts]) for i in range(length)]


def split_channels(tree, parts: int) -> list:
  """Splits every array of a tree along its last axis into `parts` equal parts: one tree for each part."""
  leaves, structure = jax.tree.flatten(tree)
  split_leaves = zip(*(jnp.split(x, parts, -1) for x in leaves), strict=True)
  return [jax.tree.unflatten(structure, part) for part in split_leaves]

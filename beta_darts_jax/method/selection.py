"""Which cell a search keeps: early stopping, the best epoch, and selection by perturbation (DARTS-PT)."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from beta_darts_jax.spaces.genotype import Genotype
from beta_darts_jax.spaces.space import SearchSpace

# ---- which epoch ----


def eigenvalue_stop(eigenvalues: Sequence[float], ratio: float, window: int = 5) -> int | None:
  """Early stopping of RobustDARTS (Zela et al., ICLR 2020).

  Let λ̄ be the mean magnitude of the dominant eigenvalue over `window` measurements. The search stops when λ̄ of
  `window` measurements ago is less than `ratio` times λ̄ now, and keeps the cell of then.

  Args:
    eigenvalues: the dominant eigenvalue of α's Hessian, measurement by measurement.
    ratio: 0.75 in RobustDARTS.
    window: measurements.

  Returns:
    The index of the measurement whose cell is kept, or None if the search continues.
  """
  values = np.abs(eigenvalues)
  for i in range(2 * window - 1, len(values)):
    before, now = values[i - 2 * window + 1 : i - window + 1].mean(), values[i - window + 1 : i + 1].mean()
    if before < ratio * now:
      return i - window
  return None


def skip_stop(num_skips: Sequence[int | None], limit: int) -> int | None:
  """Early stopping of DARTS+ (Liang et al., 2019): the first epoch whose normal cell has `limit` skip connections.

  Args:
    num_skips: skip connections of the normal cell, epoch by epoch; None where there is no cell.
    limit: skip connections.

  Returns:
    The index of the epoch, or None if the search continues.

  Example:
    >>> skip_stop([1, 2, 4], limit=2)
    1
  """
  return next((i for i, skips in enumerate(num_skips) if skips is not None and skips >= limit), None)


def best_epoch(accuracies: Sequence[float | None]) -> int:
  """Returns the index of the highest accuracy, the first one of equals; None counts as the lowest."""
  return int(np.argmax([-1.0 if accuracy is None else accuracy for accuracy in accuracies]))


# ---- selection by perturbation ----


class Order(NamedTuple):
  """The order of DARTS-PT's decisions: {cell type: edges} and {cell type: nodes that more than two edges enter}."""

  edges: Mapping[str, Sequence[int]]
  nodes: Mapping[str, Sequence[int]]


def draw_order(space: SearchSpace, seed: int) -> Order:
  """Returns a random order of the edges and of the nodes of each cell type."""
  rng = np.random.default_rng(seed)
  nodes: list[int] = []
  if space.keeps_two_edges:
    nodes = [node for node in dict.fromkeys(target for target, _ in space.edges) if len(_entering(space, node)) > 2]
  return Order(
    edges={name: rng.permutation(len(space.places(name))).tolist() for name in space.cell_types},
    nodes={name: rng.permutation(nodes).tolist() for name in space.cell_types},
  )


def _no_tuning(betas, decided):
  del decided
  return betas


def select_by_perturbation(
  space: SearchSpace, betas, accuracy_of: Callable, tune: Callable = _no_tuning, order: Order | int = 0
) -> Genotype:
  """DARTS-PT (Wang et al., ICLR 2021): each edge keeps the operation that the supernet misses most.

  A stage decides one edge of each cell type. The supernet is evaluated without one operation of the edge at a time. The
  operation without which the accuracy is lowest stays, the first of equals. Where a node keeps two edges, a stage then
  decides one node of each cell type: the edge without which the accuracy is highest is dropped, the last of equals,
  until two are left. `none` stays only where the space can derive it.

  Args:
    space: the search space.
    betas: β of the supernet, {cell type: [E, O]}.
    accuracy_of: list of n β of this form → [n] accuracies.
    tune: function (β, decided) → β. It is called before each stage but the first to train the supernet, and once before
      the nodes are decided. `decided` {cell type: bool [E]} tells which edges have one operation left.
    order: order of the decisions, or the seed of a random order.
  """
  betas = {name: np.array(betas[name]) for name in space.cell_types}
  order = draw_order(space, order) if isinstance(order, int) else order
  betas = select_operations(space, betas, accuracy_of, tune, order)
  if any(order.nodes.values()):
    betas = tune(betas, {name: np.ones(len(beta), bool) for name, beta in betas.items()})
    betas = select_edges(space, betas, accuracy_of, order)
  return space.derive(betas)


def select_operations(space, betas, accuracy_of, tune, order: Order) -> dict[str, np.ndarray]:
  """Returns β in which each edge has one operation left, with the sum of the edge's β; see select_by_perturbation."""
  decided = {name: np.zeros(len(beta), bool) for name, beta in betas.items()}
  for stage in range(max(map(len, decided.values()))):
    if stage:
      betas = _copy(tune(_copy(betas), _copy(decided)))
    for name in space.cell_types:
      if stage < len(decided[name]):  # a cell type may have fewer edges than another one
        edge = order.edges[name][stage]
        betas[name][edge] = _keep_one_operation(space, betas, accuracy_of, name, edge)
        decided[name][edge] = True
  return betas


def _keep_one_operation(space, betas, accuracy_of, name, edge) -> np.ndarray:
  """Returns the β [O] of an edge: the operation without which the accuracy is lowest has the sum of the edge's β."""
  operations = space.candidates(name)[edge]
  candidates = [k for k, operation in enumerate(operations) if operation != 'none' or not space.keeps_two_edges]
  accuracies = accuracy_of([_without(betas, name, edge, k) for k in candidates])
  kept = candidates[int(np.argmin(accuracies))]
  return betas[name][edge].sum() * np.eye(len(operations))[kept]


def select_edges(space, betas, accuracy_of, order: Order) -> dict[str, np.ndarray]:
  """Returns β in which each node has at most two edges left, the others being 0; see select_by_perturbation."""
  betas = _copy(betas)
  for nodes in zip(*order.nodes.values(), strict=True):
    for name, node in zip(order.nodes, nodes, strict=True):
      edges = _entering(space, node)
      kept = list(edges)
      while len(kept) > 2:
        accuracies = accuracy_of([_without(betas, name, e) for e in kept])
        last_of_equals = len(kept) - 1 - int(np.argmax(accuracies[::-1]))
        del kept[last_of_equals]
      for e in set(edges) - set(kept):
        betas[name][e] = 0
  return betas


def _entering(space, node):
  """The edges that enter a node, as rows of α."""
  return [e for e, (target, _) in enumerate(space.edges) if target == node]


def _without(betas, name, e, k=slice(None)):
  """A copy of β in which operation k of edge e, or the whole edge, has weight 0."""
  copy = _copy(betas)
  copy[name][e, k] = 0
  return copy


def _copy(tree):
  return {name: array.copy() for name, array in tree.items()}

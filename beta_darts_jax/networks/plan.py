"""The cells of a network in order, and which cells and edges are equal, so that one loop body can compute them.

Legend: C channels, E edges (rows of α).
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from beta_darts_jax.spaces.space import SearchSpace


class PlannedCell(NamedTuple):
  """A cell in the plan of a network of the DARTS family."""

  cell_type: str  # 'normal' or 'reduce'
  channels: int
  after_reduction: bool  # the older input is twice as large as the newer one


def cell_plan(depth: int, channels: int, reduced: bool = False) -> list[PlannedCell]:
  """Plans the cells of a network: reductions, which double the channels, at 1/3 and 2/3 of the depth.

  `channels` is C before the first cell. `reduced`: the two outputs of the stem differ in size, as after a reduction.

  Example:
    >>> [tuple(cell) for cell in cell_plan(4, 16)]
    [('normal', 16, False), ('reduce', 32, False), ('reduce', 64, True), ('normal', 64, True)]
  """
  plan = []
  for layer in range(depth):
    reduction = layer in (depth // 3, 2 * depth // 3)
    channels *= 2 if reduction else 1
    plan.append(PlannedCell('reduce' if reduction else 'normal', channels, after_reduction=reduced))
    reduced = reduction
  return plan


def equal_cells(plan: Sequence[PlannedCell]) -> list[tuple[int, int]]:
  """Groups the plan into runs of cells that are equal, also in the shapes of their inputs: [(first layer, length)]."""
  runs: list[tuple[int, int]] = []
  for layer, cell in enumerate(plan):
    before = plan[max(layer - 3, 0) : layer]
    same_as_before = len(before) == 3 and all(other[:2] == cell[:2] for other in before)
    if same_as_before and cell.cell_type == 'normal':
      first, length = runs.pop()
      runs.append((first, length + 1))
    else:
      runs.append((layer, 1))
  return runs


def edge_stride(cell_type: str, source: int, num_inputs: int) -> int:
  """Returns the stride of an edge: 2 from the inputs of a 'reduce' cell, else 1."""
  return 2 if cell_type == 'reduce' and source < num_inputs else 1


def equal_edges(space: SearchSpace, cell_type: str) -> list[tuple[int, list[int]]]:
  """Groups the edges into runs with equal stride and candidates: [(stride, rows of α)].

  Each edge stands after the edges that make its source. Edges with stride 2 come first, since they start at the inputs.
  """

  def stride(e: int) -> int:
    return edge_stride(cell_type, space.edges[e][1], space.num_inputs)

  def kind(e: int):
    return stride(e), space.candidates(cell_type)[e]

  order = sorted(range(len(space.edges)), key=stride, reverse=True)
  return [(kind[0], list(edges)) for kind, edges in itertools.groupby(order, key=kind)]

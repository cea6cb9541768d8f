"""Skeletons as values: what the cells of a network are, and which edge of a genotype a row of α stands for."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple


class Place(NamedTuple):
  """An edge of a genotype."""

  cell: int  # index into Genotype.cells
  target: int
  source: int


@dataclasses.dataclass(frozen=True)
class Skeleton:
  """How cells make a network, and what a derived cell keeps.

  Attributes:
    cell_types: each one has its own α.
    num_inputs: input nodes of a cell.
    places: function (nodes, index of the cell type) → the edge that each row of α stands for.
    depth_field: name of the field of Supernet that has the number of cells; '' if the space has it.
    stem: `network.stem` of a network on small images.
    keeps_two_edges: a node of a derived cell keeps two edges, and never `none`. Otherwise each edge keeps an operation.
    num_outputs: the output of a cell is the concatenation of that many nodes; 0 means that it is the last node.
    is_chain: the network is a chain of layers, without cells that repeat.
  """

  cell_types: tuple[str, ...]
  num_inputs: int
  places: Callable[[int, int], tuple[Place, ...]]
  depth_field: str
  stem: str
  keeps_two_edges: bool = False
  num_outputs: int = 0
  is_chain: bool = False


def graph_edges(nodes: int, num_inputs: int) -> tuple[tuple[int, int], ...]:
  """Returns the edges (target, source) of a cell in which every node has an edge from each node before it."""
  last = num_inputs + nodes
  return tuple((target, source) for target in range(num_inputs, last) for source in range(target))


def _edges_of_benchmark_cell(nodes: int, cell_type: int) -> tuple[Place, ...]:
  return tuple(Place(cell_type, *edge) for edge in graph_edges(nodes, num_inputs=1))


def _edges_of_darts_cell(nodes: int, cell_type: int) -> tuple[Place, ...]:
  return tuple(Place(cell_type, *edge) for edge in graph_edges(nodes, num_inputs=2))


STAGES = 6  # of the skeleton 'mobile'


def _layers(nodes: int, cell_type: int) -> tuple[Place, ...]:
  """The layers of the chain that keep the shape ('normal', cell type 0), or the first ones of the stages ('reduce').

  Each stage but the last one has `nodes` layers; the last stage has one.
  """
  layers = (
    Place(stage, layer + 1, layer) for stage in range(STAGES) for layer in range(nodes if stage < STAGES - 1 else 1)
  )
  return tuple(place for place in layers if (place.source == 0) == (cell_type == 1))


SKELETONS = {
  'nas_bench_201': Skeleton(
    cell_types=('cell',),
    num_inputs=1,
    places=_edges_of_benchmark_cell,
    depth_field='cells_per_stage',
    stem='nas_bench_201',
  ),
  'darts': Skeleton(
    cell_types=('normal', 'reduce'),
    num_inputs=2,
    places=_edges_of_darts_cell,
    depth_field='layers',
    stem='cifar',
    keeps_two_edges=True,
    num_outputs=4,
  ),
  'mobile': Skeleton(
    cell_types=('normal', 'reduce'), num_inputs=1, places=_layers, depth_field='', stem='mobile', is_chain=True
  ),
}

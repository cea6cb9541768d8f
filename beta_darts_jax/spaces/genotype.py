"""Genotypes: discrete cells as hashable values, their text, and the rules that derive cells from β."""

import dataclasses
import operator
from collections.abc import Iterable

import numpy as np

from beta_darts_jax.errors import InputError
from beta_darts_jax.spaces.forms import abbreviate, read_cells
from beta_darts_jax.spaces.skeletons import Place

WITHOUT_WEIGHTS = frozenset({'none', 'skip_connect', 'avg_pool_3x3', 'max_pool_3x3', 'noise'})  # operations
_CELLS = ('normal', 'reduce')
_FORMS = (
  "|op~0|+|op~0|op~1|+…, Genotype(normal=[('op', 0), …], normal_concat=range(2, 6), reduce=…, reduce_concat=…), "
  'or the stages of a chain, op > op > … | op > …'
)


@dataclasses.dataclass(frozen=True)
class Cell:
  """A discrete cell.

  Attributes:
    nodes: the incoming edges of each intermediate node, as `(operation, source node)`. Node 0 is the input of a
      NAS-Bench-201 cell and of a stage; nodes 0 and 1 are the inputs of a DARTS cell.
    concat: the nodes whose concatenation is the output (DARTS). () means that the last node is the output.
  """

  nodes: tuple[tuple[tuple[str, int], ...], ...]
  concat: tuple[int, ...] = ()

  @property
  def num_inputs(self) -> int:
    """Number of input nodes: 2 (DARTS) or 1."""
    return 2 if self.concat else 1

  @property
  def edges(self) -> tuple[tuple[int, int, str], ...]:
    """All edges as `(target, source, operation)`, ordered by target."""
    targets = enumerate(self.nodes, start=self.num_inputs)
    return tuple((target, source, operation) for target, node in targets for operation, source in node)

  @property
  def operations(self) -> tuple[str, ...]:
    """The operation of every edge, in the order of `edges`."""
    return tuple(operation for _, _, operation in self.edges)


@dataclasses.dataclass(frozen=True)
class Genotype:
  """The cells of an architecture: one (NAS-Bench-201), the normal and the reduction cell (DARTS), or stages (a chain).

  It is hashable, so it can be a key of a dict and a field of a Linen module.
  """

  cells: tuple[Cell, ...]

  @property
  def skeleton(self) -> str:
    """The skeleton of its networks: 'nas_bench_201', 'darts' or 'mobile'."""
    if self.cells[0].concat:
      return 'darts'
    return 'nas_bench_201' if len(self.cells) == 1 else 'mobile'

  @property
  def main_operations(self) -> list[str]:
    """The operations of the (normal) cell, or of all layers of a chain."""
    cells = self.cells if self.skeleton == 'mobile' else [self.normal]
    return [name for cell in cells for name in cell.operations]

  @property
  def operations_by_place(self) -> dict[Place, str]:
    """The operation of each edge."""
    return {
      Place(index, target, source): operation
      for index, cell in enumerate(self.cells)
      for target, source, operation in cell.edges
    }

  @property
  def normal(self) -> Cell:
    """The normal cell (DARTS), the only cell (NAS-Bench-201) or the first stage (a chain)."""
    return self.cells[0]

  @property
  def reduce(self) -> Cell:
    """The reduction cell (DARTS), the only cell (NAS-Bench-201) or the last stage (a chain)."""
    return self.cells[-1]

  def __str__(self) -> str:
    """Returns the text, which Genotype.parse reads.

    It is the arch string of NAS-Bench-201, `|op~0|+…`; DARTS' form, `Genotype(normal=[…], …)`; or the layers of a
    chain, stage by stage, `op > op > op | op > op`.
    """
    if self.skeleton == 'nas_bench_201':
      return '+'.join(_arch_node(node) for node in self.normal.nodes)
    if self.skeleton == 'mobile':
      return ' | '.join(' > '.join(stage.operations) for stage in self.cells)
    named = zip(_CELLS, self.cells, strict=True)
    return f'Genotype({", ".join(_cell_text(name, cell) for name, cell in named)})'

  @classmethod
  def parse(cls, text: str) -> 'Genotype':
    """Reads a text of `str`, JSON, or a form of another program; docs/interop.md lists the forms.

    The text may have other text around the genotype, such as a line of a log.

    Raises:
      InputError: `text` holds no genotype in a known form, or several different genotypes.

    Example:
      >>> cell = Genotype.parse('|nor_conv_3x3~0|+|none~0|skip_connect~1|').normal
      >>> cell.edges  # (target, source, operation)
      ((1, 0, 'nor_conv_3x3'), (2, 0, 'none'), (2, 1, 'skip_connect'))
    """
    try:
      return cls(tuple(Cell(*parts) for parts in read_cells(text)))
    # ast.parse raises the last two types for deeply nested text
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
      detail = error.msg if isinstance(error, SyntaxError) else str(error)
      raise InputError(f'cannot read the genotype {abbreviate(text.strip())} ({detail}): expected {_FORMS}') from None


def _arch_node(node):
  return '|{}|'.format('|'.join(f'{operation}~{source}' for operation, source in node))


def _cell_text(name, cell):
  """Writes a cell as DARTS does: a flat list of edges if each node has two; otherwise a list of edges per node."""
  is_flat = all(len(node) == 2 for node in cell.nodes)
  edges = [edge for node in cell.nodes for edge in node] if is_flat else [list(node) for node in cell.nodes]
  nodes = range(cell.concat[0], cell.concat[-1] + 1)
  return f'{name}={edges}, {name}_concat={nodes if cell.concat == tuple(nodes) else list(cell.concat)}'


# ---- deriving: SearchSpace.derive applies one of these rules to each cell type ----
# `betas` are [E, O] weights, `edges` are E pairs (target, source), grouped by target, and `operations` are the names of
# the O candidates of each edge.


def derive_every_edge(betas, edges, operations) -> Cell:
  """Derives a cell by the rule of NAS-Bench-201: every edge keeps its strongest operation, which may be `none`.

  Ties go to the first operation. The logits α give the same cell as β: only the order counts.
  """
  choice = np.argmax(np.asarray(betas), axis=-1)
  nodes: dict[int, list] = {}
  for (target, source), names, index in zip(edges, operations, choice, strict=True):
    nodes.setdefault(target, []).append((names[index], source))
  return Cell(tuple(tuple(node) for node in nodes.values()))


def derive_two_per_node(betas, edges, operations, concat) -> Cell:
  """Derives a cell by the rule of DARTS: every node keeps its two strongest edges.

  The strength of an edge is the largest weight of its operations other than `none`, and the edge keeps that operation
  (ties: the first). The edges of a node are in descending order of strength (ties: the lower source first). `concat`
  are the nodes whose concatenation is the output.
  """
  nodes: dict[int, list] = {}
  for (target, source), names, weights in zip(edges, operations, np.asarray(betas), strict=True):
    candidates = [(float(weight), name) for weight, name in zip(weights, names, strict=True) if name != 'none']
    strength, name = max(candidates, key=operator.itemgetter(0))
    nodes.setdefault(target, []).append((-strength, source, name))
  strongest = (sorted(node, key=operator.itemgetter(0, 1))[:2] for node in nodes.values())
  return Cell(tuple(tuple((name, source) for _, source, name in node) for node in strongest), tuple(concat))


def derive_chain(rows: Iterable[tuple]) -> tuple[Cell, ...]:
  """Derives the stages of a chain: every layer keeps its strongest operation. Ties go to the first operation.

  `rows` has (Places, names of the candidates, β [E, O]) for each cell type.
  """
  choices = {
    place: names[int(choice)]
    for places, operations, betas in rows
    for place, names, choice in zip(places, operations, np.argmax(np.asarray(betas), axis=-1), strict=True)
  }
  stages: dict[int, list] = {}
  for place in sorted(choices):
    stages.setdefault(place.cell, []).append(((choices[place], place.source),))
  return tuple(Cell(tuple(nodes)) for nodes in stages.values())

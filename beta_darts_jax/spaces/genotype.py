"""Genotypes: discrete cells as hashable values, their text forms, and the two rules that derive a cell from β."""

import ast
import dataclasses
import json
import operator
import re

import numpy as np

from beta_darts_jax.errors import InputError

_EDGE = re.compile(r'([A-Za-z0-9_]+)~(\d+)')
_CELLS = ('normal', 'reduce')
_PARTS = ('normal', 'normal_concat', 'reduce', 'reduce_concat')
_FORMS = (
  "|op~0|+|op~0|op~1|+…, or Genotype(normal=[('op', 0), …], normal_concat=range(2, 6), reduce=…, reduce_concat=…)"
)


@dataclasses.dataclass(frozen=True)
class Cell:
  """A discrete cell.

  Attributes:
    nodes: the incoming edges of each intermediate node, as `(operation, source node)`. Node 0 is the input of a
      NAS-Bench-201 cell; nodes 0 and 1 are the inputs of a DARTS cell.
    concat: the nodes whose concatenation is the output (DARTS). () means that the last node is the output
      (NAS-Bench-201).
  """

  nodes: tuple[tuple[tuple[str, int], ...], ...]
  concat: tuple[int, ...] = ()

  @property
  def num_inputs(self) -> int:
    """Number of input nodes: 1 (NAS-Bench-201) or 2 (DARTS)."""
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
  """The cells of an architecture: one (NAS-Bench-201), or the normal and the reduction cell (DARTS).

  It is hashable, so it can be a key of a dict and a field of a Linen module.
  """

  cells: tuple[Cell, ...]

  @property
  def normal(self) -> Cell:
    """The normal cell (DARTS) or the only cell (NAS-Bench-201)."""
    return self.cells[0]

  @property
  def reduce(self) -> Cell:
    """The reduction cell (DARTS) or the only cell (NAS-Bench-201)."""
    return self.cells[-1]

  def __str__(self) -> str:
    """Returns the arch string of NAS-Bench-201, `|op~0|+…`, or DARTS' form, `Genotype(normal=[…], …)`."""
    if len(self.cells) == 1:
      return '+'.join(_arch_node(node) for node in self.normal.nodes)
    named = zip(_CELLS, self.cells, strict=True)
    return f'Genotype({", ".join(_cell_text(name, cell) for name, cell in named)})'

  @classmethod
  def parse(cls, text: str) -> 'Genotype':
    """Reads an arch string, `Genotype(…)`, or JSON: `{"normal": [["op", 0], …], "normal_concat": [2, …], "reduce": …}`.

    Raises:
      InputError: `text` has none of these forms.

    Example:
      >>> cell = Genotype.parse('|nor_conv_3x3~0|+|none~0|skip_connect~1|').normal
      >>> cell.edges  # (target, source, operation)
      ((1, 0, 'nor_conv_3x3'), (2, 0, 'none'), (2, 1, 'skip_connect'))
    """
    text = text.strip()
    try:
      return cls(_parse_cells(text))
    # ast.parse raises the last two types for deeply nested text
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
      detail = error.msg if isinstance(error, SyntaxError) else str(error)
      raise InputError(f'cannot read the genotype {abbreviate(text)} ({detail}): expected {_FORMS}') from None


def abbreviate(text: str) -> str:
  """Returns `text` in quotes, cut after 97 characters. For messages."""
  return repr(text if len(text) < 100 else f'{text[:97]}…')


def _arch_node(node):
  return '|{}|'.format('|'.join(f'{operation}~{source}' for operation, source in node))


def _cell_text(name, cell):
  edges = [edge for node in cell.nodes for edge in node]
  nodes = range(cell.concat[0], cell.concat[-1] + 1)
  return f'{name}={edges}, {name}_concat={nodes if cell.concat == tuple(nodes) else list(cell.concat)}'


# ---- parsing: each function raises ValueError, which Genotype.parse turns into an InputError ----


def _parse_cells(text):
  if text.startswith('|'):
    return (_parse_arch(text),)
  tree = json.loads(text) if text.startswith(('{', '"')) else _parse_call(text)
  if isinstance(tree, str):
    return _parse_cells(tree.strip())
  if set(tree) != set(_PARTS):
    raise ValueError(f'it has the parts {", ".join(map(str, tree))}; needed are {", ".join(_PARTS)}')
  return tuple(_parse_cell(name, tree[name], tree[f'{name}_concat']) for name in _CELLS)


def _parse_arch(text):
  """Reads the arch string of NAS-Bench-201, `|op~0|+|op~0|op~1|+…`: one group of edges per node."""
  nodes = []
  for target, group in enumerate(text.split('+'), start=1):
    edges = [_EDGE.fullmatch(edge) for edge in group.strip('|').split('|')]
    if not (group.startswith('|') and group.endswith('|') and all(edges)):
      raise ValueError(f'node {target} is {abbreviate(group)}')
    node = tuple((edge[1], int(edge[2])) for edge in edges)
    _check_sources(node, target)
    nodes.append(node)
  return Cell(tuple(nodes))


def _check_sources(node, target, name='the cell'):
  if any(not 0 <= source < target for _, source in node):
    raise ValueError(f'{name}: the inputs of node {target} must be nodes 0 … {target - 1}')


def _parse_call(text):
  """Reads `Genotype(name=value, …)` into {name: value}; a value is a literal or range(…)."""
  call = ast.parse(text, mode='eval').body
  if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == 'Genotype'):
    raise ValueError('it does not begin with Genotype(')
  if call.args:
    raise ValueError('its arguments have no names')
  return {keyword.arg: _parse_value(keyword.value) for keyword in call.keywords}


def _parse_value(node):
  if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'range'):
    return _parse_literal(node)
  bounds = [_parse_literal(bound) for bound in node.args]
  if any(not isinstance(bound, int) or abs(bound) > 1000 for bound in bounds):
    raise ValueError('the bounds of range(…) must be small integers')
  return range(*bounds)


def _parse_literal(node):
  try:
    return ast.literal_eval(node)
  except ValueError:
    raise ValueError(f'{abbreviate(ast.unparse(node))} is not a string in quotes, a number or a list') from None


def _parse_cell(name, edges, concat):
  """Makes a DARTS cell from a flat list of edges, two per node."""
  edges, concat = [tuple(edge) for edge in edges], tuple(concat)
  if not edges or len(edges) % 2:
    raise ValueError(f'{name} has {len(edges)} edges, expected two per node')
  if any(len(edge) != 2 or type(edge[0]) is not str or type(edge[1]) is not int for edge in edges):
    raise ValueError(f"{name}: expected edges ('operation', source)")
  nodes = tuple(zip(edges[::2], edges[1::2], strict=True))
  for target, node in enumerate(nodes, start=2):
    _check_sources(node, target, name)
  last = len(nodes) + 1
  if not concat or any(type(node) is not int or not 2 <= node <= last for node in concat):
    raise ValueError(f'{name}_concat={list(concat)}: expected nodes from 2 … {last}')
  return Cell(nodes, concat)


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

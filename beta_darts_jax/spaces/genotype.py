"""What a search finds: the operations that its cells keep, as a value.

Legend: E edges, O candidate operations of an edge.
"""

import ast
import dataclasses
import json
import re

import numpy as np

from beta_darts_jax.errors import InputError

_EDGE = re.compile(r'([A-Za-z0-9_]+)~(\d+)')
_FORMS = (
  "|op~0|+|op~0|op~1|+…, or Genotype(normal=[('op', 0), …], normal_concat=range(2, 6), reduce=…, reduce_concat=…)"
)


@dataclasses.dataclass(frozen=True)
class Cell:
  """A discrete cell.

  Attributes:
    nodes: for each intermediate node its incoming edges as `(operation, source node)`. Nodes are numbered from
      the inputs on: input 0 (NAS-Bench-201), or inputs 0 and 1 (the DARTS family).
    concat: nodes whose concatenation is the output; () is NAS-Bench-201's: the last node alone.
  """

  nodes: tuple[tuple[tuple[str, int], ...], ...]
  concat: tuple[int, ...] = ()

  @property
  def num_inputs(self) -> int:
    """1, or 2 in the DARTS family."""
    return 2 if self.concat else 1

  @property
  def edges(self) -> tuple[tuple[int, int, str], ...]:
    """(target, source, operation) of every edge."""
    targets = enumerate(self.nodes, start=self.num_inputs)
    return tuple((target, source, operation) for target, node in targets for operation, source in node)

  @property
  def operations(self) -> tuple[str, ...]:
    """The operation of every edge."""
    return tuple(operation for _, _, operation in self.edges)


@dataclasses.dataclass(frozen=True)
class Genotype:
  """The cells of an architecture. Hashable, so it keys dictionaries and parametrizes modules.

  Attributes:
    cells: one (NAS-Bench-201), or the normal and the reduction cell (the DARTS family).
  """

  cells: tuple[Cell, ...]

  @property
  def normal(self) -> Cell:
    """The normal cell; NAS-Bench-201's only cell."""
    return self.cells[0]

  @property
  def reduce(self) -> Cell:
    """The reduction cell."""
    return self.cells[-1]

  def __str__(self) -> str:
    """The text of the field: NAS-Bench-201's arch string `|op~0|+…`, or DARTS' `Genotype(normal=[…], …)`."""
    if len(self.cells) == 1:
      nodes = ('|'.join(f'{operation}~{source}' for operation, source in node) for node in self.normal.nodes)
      return '+'.join(f'|{node}|' for node in nodes)
    return 'Genotype({})'.format(
      ', '.join(
        f'{name}={[edge for node in cell.nodes for edge in node]}, {name}_concat={_ranged(cell.concat)}'
        for name, cell in zip(('normal', 'reduce'), self.cells, strict=True)
      )
    )

  def to_json(self) -> str | dict:
    """As JSON: the arch string, or {'normal': [[op, source], …], 'normal_concat': […], 'reduce': …}."""
    if len(self.cells) == 1:
      return str(self)
    tree: dict = {}
    for name, cell in zip(('normal', 'reduce'), self.cells, strict=True):
      tree |= {name: [list(edge) for node in cell.nodes for edge in node], f'{name}_concat': list(cell.concat)}
    return tree

  @classmethod
  def parse(cls, text: str) -> 'Genotype':
    """Reads any of the forms that are written: an arch string, `Genotype(…)`, or the JSON of either.

    Raises:
      InputError: `text` is none of them.

    Example:
      >>> cell = Genotype.parse('|nor_conv_3x3~0|+|none~0|skip_connect~1|').normal
      >>> cell.edges  # (target, source, operation)
      ((1, 0, 'nor_conv_3x3'), (2, 0, 'none'), (2, 1, 'skip_connect'))
    """
    text = text.strip()
    if text.startswith('|'):
      return cls((_parse_arch(text),))
    try:
      tree = json.loads(text) if text.startswith(('{', '"')) else _call(text)
      if isinstance(tree, str):
        return cls.parse(tree)
      if sorted(tree) != ['normal', 'normal_concat', 'reduce', 'reduce_concat']:
        raise ValueError(f'it names {", ".join(sorted(tree))}')
      return cls(tuple(_cell(name, tree[name], tree[f'{name}_concat']) for name in ('normal', 'reduce')))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
      detail = error.msg if isinstance(error, SyntaxError) else str(error)
      raise InputError(f'cannot read the genotype {_short(text)} ({detail}): expected {_FORMS}') from None


def in_short(genotype: Genotype) -> str:
  """What messages call a genotype: its published name, or how its text begins."""
  names = [name for name, known in published().items() if known == genotype]
  return names[0] if names else _short(str(genotype))


def _short(text):
  return repr(text if len(text) < 100 else f'{text[:97]}…')


def _ranged(concat):
  whole = concat == tuple(range(concat[0], concat[-1] + 1))
  return f'range({concat[0]}, {concat[-1] + 1})' if whole else list(concat)


def _parse_arch(text):
  nodes = []
  for target, part in enumerate(text.split('+'), start=1):
    edges = [_EDGE.fullmatch(edge) for edge in part.strip('|').split('|')]
    if not (part.startswith('|') and part.endswith('|') and all(edges)):
      raise InputError(f'cannot read the genotype {_short(text)}: expected {_FORMS}')
    node = tuple((edge[1], int(edge[2])) for edge in edges)
    if any(source >= target for _, source in node):
      raise InputError(
        f'cannot read the genotype {_short(text)}: node {target} may only take from nodes below it; expected {_FORMS}'
      )
    nodes.append(node)
  return Cell(tuple(nodes))


def _call(text):
  """`Genotype(name=literal or range(…), …)` → {name: value}."""
  call = ast.parse(text, mode='eval').body
  if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == 'Genotype'):
    raise ValueError('it is no Genotype(…)')
  if call.args:
    raise ValueError('its parts have no names')

  def literal(node):
    try:
      return ast.literal_eval(node)
    except ValueError:
      names = [part.id for part in ast.walk(node) if isinstance(part, ast.Name)]
      raise ValueError(f'{names[0] if names else "a part"} is no list, text in quotes or number') from None

  def value(node):
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'range':
      bounds = [literal(bound) for bound in node.args]
      if any(not isinstance(bound, int) or abs(bound) > 1000 for bound in bounds):
        raise ValueError('a range takes small integers')
      return list(range(*bounds))
    return literal(node)

  return {keyword.arg: value(keyword.value) for keyword in call.keywords}


def _cell(name, edges, concat):
  """A DARTS cell of a flat list of edges, two a node."""
  edges, concat = [tuple(edge) for edge in edges], tuple(concat)
  if not edges or len(edges) % 2:
    raise ValueError(f'{name} has {len(edges)} edges, not two a node')
  if any(len(edge) != 2 or type(edge[0]) is not str or type(edge[1]) is not int for edge in edges):
    raise ValueError(f"{name}: an edge is ('operation', source)")
  nodes = tuple(zip(edges[::2], edges[1::2], strict=True))
  for target, node in enumerate(nodes, start=2):
    if any(not 0 <= source < target for _, source in node):
      raise ValueError(f'{name}: node {target} may only take from nodes below it')
  if not concat or any(type(node) is not int or not 2 <= node < len(nodes) + 2 for node in concat):
    raise ValueError(f'{name}_concat is {list(concat)}, allowed are nodes 2 … {len(nodes) + 1}')
  return Cell(nodes, concat)


def derive_every_edge(betas, edges, operations) -> Cell:
  """Arg-max per edge, `none` included: NAS-Bench-201's rule (ties go to the first operation).

  Args:
    betas: [E, O] weights of the operations (or the logits; only their order counts).
    edges: E pairs `(target, source)`, grouped by target.
    operations: for each edge its O candidate names.
  """
  choice = np.argmax(np.asarray(betas), axis=-1)
  nodes: dict[int, list] = {}
  for (target, source), names, index in zip(edges, operations, choice, strict=True):
    nodes.setdefault(target, []).append((names[index], source))
  return Cell(tuple(tuple(node) for node in nodes.values()))


def derive_two_per_node(betas, edges, operations, concat) -> Cell:
  """DARTS' rule: of each node's incoming edges the two with the largest weight of an operation that is not `none`.

  In descending order of that weight (ties: the lower source), each with that operation (ties: the first).

  Args:
    betas: [E, O] weights of the operations.
    edges: E pairs `(target, source)`, grouped by target.
    operations: for each edge its O candidate names.
    concat: nodes that make the output.
  """
  nodes: dict[int, list] = {}
  for (target, source), names, weights in zip(edges, operations, np.asarray(betas), strict=True):
    real = [(float(weight), name) for weight, name in zip(weights, names, strict=True) if name != 'none']
    weight, name = max(real, key=lambda pair: pair[0])
    nodes.setdefault(target, []).append((-weight, source, name))
  kept = (sorted(node, key=lambda edge: edge[:2])[:2] for node in nodes.values())
  return Cell(tuple(tuple((name, source) for _, source, name in node) for node in kept), tuple(concat))


# A letter for each operation of the DARTS family
LETTERS = {
  'k': 'skip_connect', 'm': 'max_pool_3x3', 'a': 'avg_pool_3x3', 's': 'sep_conv_3x3', 'S': 'sep_conv_5x5',
  'Z': 'sep_conv_7x7', 'd': 'dil_conv_3x3', 'D': 'dil_conv_5x5', 'f': 'conv_7x1_1x7',
}  # fmt: skip
# Cells of published papers: for each node two edges, operation and source; the concatenated nodes
_PUBLISHED = {
  'NASNET': ('S1 s0 S0 s0 a1 k0 a0 a0 s1 k1', '23456', 'S1 Z0 m1 Z0 a1 S0 k3 a2 s2 m1', '456'),
  'AMOEBANET': ('a0 m1 s0 S2 s0 a3 s1 k1 k0 a1', '456', 'a0 s1 m0 Z2 Z0 a1 m0 m1 f0 s5', '346'),
  'DARTS_V1': ('s1 s0 k0 s1 k0 s1 s0 k2', '2345', 'm0 m1 k2 m0 m0 k2 k2 a0', '2345'),
  'DARTS_V2': ('s0 s1 s0 s1 s1 k0 k0 d2', '2345', 'm0 m1 k2 m1 m0 k2 k2 m1', '2345'),
  'SNAS': ('s0 s1 k0 d1 k1 k0 k0 s1', '2345', 'm0 m1 m1 k2 k2 m1 m0 D2', '2345'),
  'P_DARTS': ('k0 d1 k0 s1 s1 s3 s0 D4', '2345', 'a0 S1 s0 D2 m0 d1 d1 D3', '2345'),
  'PC_DARTS_CIFAR': ('s1 k0 s0 d1 S0 s1 a0 d1', '2345', 'S1 m0 S1 S2 s0 s3 s1 s2', '2345'),
  'PC_DARTS_IMAGENET': ('k1 s0 s0 k1 s1 s3 s1 D4', '2345', 's0 k1 D2 m1 s2 s1 S0 s3', '2345'),
}


def published() -> dict[str, Genotype]:
  """Cells of published papers by the names that the field gives them."""

  def cell(edges, concat):
    return _cell('', [(LETTERS[edge[0]], int(edge[1])) for edge in edges.split()], map(int, concat))

  return {name: Genotype((cell(*parts[:2]), cell(*parts[2:]))) for name, parts in _PUBLISHED.items()}

"""The text forms of a cell, this project's and those of other programs: text → the parts of each cell.

Every function raises ValueError for a text that it cannot read. Genotype.parse turns it into an InputError.
"""

import ast
import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

_NODE = r'\|(?:\s*[A-Za-z0-9_]+~[0-9]+\s*\|)+'
_ARCH = re.compile(rf'{_NODE}(?:\s*\+\s*{_NODE})*')
_STAGE = r'[A-Za-z0-9_]+(?:\s*>\s*[A-Za-z0-9_]+)*'
_CHAIN = re.compile(rf'{_STAGE}(?:\s*\|\s*{_STAGE})+')
_EDGE = re.compile(r'([A-Za-z0-9_]+)~([0-9]+)')
# what a damaged arch string leaves beside its intact parts, which are replaced by \0
_CUT = re.compile(r'[\w~]\0|\0[\w~]\S*|\+\s*\0|\0\s*\+\S*|\w~[0-9]\S*')
_CALL = re.compile(r'\bGenotype\s*\(')
_COMMENT = re.compile(r'^[ \t]*#.*$', re.MULTILINE)
_NUMPY_NUMBER = re.compile(r'\b(?:np|numpy)\.\w+\(([^()]*)\)')
_CELLS = ('normal', 'reduce')
_PARTS = ('normal', 'normal_concat', 'reduce', 'reduce_concat')
_UNUSED_PARTS = ('connectN', 'connects')  # None in the genotypes of xautodl
# NASLib's order of the operations; its edges are 0→1, 0→2, 0→3, 1→2, 1→3, 2→3
_NASLIB_OPERATIONS = ('skip_connect', 'none', 'nor_conv_3x3', 'nor_conv_1x1', 'avg_pool_3x3')
_EDGES = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))  # of NAS-Bench-201, as (source, target)


class Parts(NamedTuple):
  """The nodes and the output nodes of one cell, as the fields of `Cell`."""

  nodes: tuple[tuple[tuple[str, int], ...], ...]
  concat: tuple[int, ...] = ()


def abbreviate(text: str) -> str:
  """Returns `text` in quotes, cut after 97 characters. For messages."""
  return repr(text if len(text) < 100 else f'{text[:97]}…')


def read_cells(text: str) -> tuple[Parts, ...]:
  """Reads the cells of one genotype. The text may have other text around the genotype, such as a line of a log.

  Raises:
    ValueError, SyntaxError, TypeError, RecursionError, MemoryError: `text` holds no genotype, or several.
  """
  if _ARCH.fullmatch(text):  # quick for the 15,625 cells of the benchmark
    return (_read_arch(text),)
  text = _NUMPY_NUMBER.sub(r'\1', _COMMENT.sub('', text.lstrip('\ufeff'))).strip()
  found = [_read_call(call) for call in _calls(text)] + [(_read_arch(arch),) for arch in _archs(text)]
  found = found or [_read_chain(chain) for chain in _CHAIN.findall(text) if '>' in chain]
  found = found or [_read_tree(_read_literal(text))]
  if len(set(found)) > 1:
    raise ValueError(f'it holds {len(set(found))} different cells')
  return found[0]


def _check_sources(node, target, name='the cell'):
  if any(not 0 <= source < target for _, source in node):
    raise ValueError(f'{name}: the inputs of node {target} must be nodes 0 … {target - 1}')


# ---- arch strings: |op~0|+|op~0|op~1|+… ----


def _archs(text) -> list[str]:
  """Returns the arch strings in a text. Raises ValueError if a part of an arch string would be left out."""
  found = _ARCH.findall(text)
  if found and (cut := _CUT.search(_ARCH.sub('\0', text))):
    shown = abbreviate(cut.group().replace('\0', '…'))
    raise ValueError(f'{shown} is no part of a cell')
  return found


def _read_arch(arch) -> Parts:
  """Reads an arch string: one group of edges per node. The edges of a node may have any order."""
  nodes = []
  for target, group in enumerate(arch.split('+'), start=1):
    edges = ((operation, int(source)) for operation, source in _EDGE.findall(group))
    nodes.append(_sort_edges(edges, target))
  return Parts(tuple(nodes))


def _sort_edges(edges, target):
  """Returns the edges of a node in the order of their sources: the sum of the edges does not depend on their order."""
  node = tuple(sorted(edges, key=lambda edge: edge[1]))
  _check_sources(node, target)
  return node


# ---- chains: op > op > … | op > … ----


def _read_chain(chain) -> tuple[Parts, ...]:
  """Reads the stages of a chain. Each layer takes the output of the layer before it."""
  stages = [re.split(r'\s*>\s*', stage.strip()) for stage in chain.split('|')]
  return tuple(Parts(tuple(((operation, i),) for i, operation in enumerate(stage))) for stage in stages)


# ---- Genotype(normal=…, normal_concat=…, reduce=…, reduce_concat=…) ----


def _calls(text) -> list[str]:
  """Returns each `Genotype(…)` in a text, up to the closing bracket or the end of the text."""
  found = []
  for match in _CALL.finditer(text):
    depth, end = 1, match.end()
    while depth and end < len(text):
      depth += {'(': 1, ')': -1}.get(text[end], 0)
      end += 1
    found.append(text[match.start() : end])
  return found


def _read_call(text) -> tuple[Parts, ...]:
  """Reads `Genotype(name=value, …)`; a value is a literal or range(…)."""
  call: Any = ast.parse(text, mode='eval').body
  if call.args:
    raise ValueError('its arguments have no names')
  return _read_tree({keyword.arg: _read_value(keyword.value) for keyword in call.keywords})


def _read_value(node):
  if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'range'):
    return _evaluate(node)
  bounds = [_evaluate(bound) for bound in node.args]
  if any(not isinstance(bound, int) or abs(bound) > 1000 for bound in bounds):
    raise ValueError('the bounds of range(…) must be small integers')
  return range(*bounds)


def _evaluate(node):
  try:
    return ast.literal_eval(node)
  except ValueError:
    raise ValueError(f'{abbreviate(ast.unparse(node))} is not a string in quotes, a number or a list') from None


# ---- JSON, and literals of Python ----


def _read_literal(text):
  """Reads JSON or a literal of Python, without the text in front of its first bracket."""
  bracket = re.search(r'[{\[(]', text)
  if not bracket or text.startswith('|'):
    raise ValueError('it has no cell')
  try:
    return json.loads(text[bracket.start() :])
  except ValueError:
    return _evaluate(ast.parse(text[bracket.start() :], mode='eval').body)


def _read_tree(tree) -> tuple[Parts, ...]:
  """Reads the cells of the DARTS family, or the cell of NAS-Bench-201, from dicts and lists."""
  if isinstance(tree, dict) and tree and all(re.fullmatch(r'\d_\d', str(name)) for name in tree):
    return (_read_edges({(int(name[0]), int(name[2])): operation for name, operation in tree.items()}),)
  if isinstance(tree, dict):
    parts = {name: value for name, value in tree.items() if not (name in _UNUSED_PARTS and value is None)}
    if set(parts) != set(_PARTS):
      raise ValueError(f'it has the parts {", ".join(map(str, tree))}; expected {", ".join(_PARTS)}')
    return tuple(_read_darts_cell(name, parts[name], parts[f'{name}_concat']) for name in _CELLS)
  if isinstance(tree, list | tuple) and len(tree) == len(_EDGES) and all(type(index) is int for index in tree):
    return (_read_indices(tree),)
  nodes = [_read_node('the cell', node) for node in tree] if _is_nested(tree) else []
  if not nodes:
    raise ValueError('it is not a cell')
  return (Parts(tuple(_sort_edges(node, target) for target, node in enumerate(nodes, start=1))),)


def _read_edges(operations: dict[tuple[int, int], str]) -> Parts:
  """Reads the dict of NNI, {(source, target): operation}, whose convolutions have no prefix."""
  if set(operations) != set(_EDGES) or not all(isinstance(operation, str) for operation in operations.values()):
    raise ValueError(f'expected an operation for each of {", ".join(f"{i}_{j}" for i, j in _EDGES)}')
  names = {edge: re.sub('^conv_', 'nor_conv_', operation) for edge, operation in operations.items()}
  return Parts(tuple(tuple((names[s, target], s) for s in range(target)) for target in (1, 2, 3)))


def _read_indices(indices: Sequence[int]) -> Parts:
  """Reads the operation indices of NASLib, one per edge."""
  if not all(0 <= index < len(_NASLIB_OPERATIONS) for index in indices):
    raise ValueError('the operation indices of NASLib are 0 … 4')
  return _read_edges({edge: _NASLIB_OPERATIONS[index] for edge, index in zip(_EDGES, indices, strict=True)})


# ---- cells of the DARTS family ----


def _read_darts_cell(name, edges, concat) -> Parts:
  """Reads nested nodes, a flat list with two edges per node, or FairDARTS' list of (operation, target, source)."""
  if not isinstance(edges, list | tuple) or not isinstance(concat, list | tuple | range):
    raise ValueError(f'{name}: expected lists of edges and of nodes')
  concat = tuple(concat)
  if _is_nested(edges):
    nodes = [_read_node(name, node) for node in edges]
  elif edges and all(_is_edge_with_target(edge) for edge in edges):
    nodes, concat = _group_by_target(name, edges, concat)
  else:
    if not edges or len(edges) % 2:
      raise ValueError(f'{name} has {len(edges)} edges, expected two per node')
    flat = _read_node(name, edges)
    nodes = list(zip(flat[::2], flat[1::2], strict=True))
  for target, node in enumerate(nodes, start=2):
    _check_sources(node, target, name)
  last = len(nodes) + 1
  if not concat or any(type(node) is not int or not 2 <= node <= last for node in concat):
    raise ValueError(f'{name}_concat={list(concat)}: expected nodes from 2 … {last}')
  return Parts(tuple(nodes), concat)


def _is_nested(nodes):
  """Returns whether `nodes` is a list of lists of edges."""
  lists = list | tuple
  return isinstance(nodes, lists) and all(
    isinstance(node, lists) and node and all(isinstance(edge, lists) for edge in node) for node in nodes
  )


def _read_node(name, edges) -> tuple[tuple[str, int], ...]:
  """Reads edges (operation, source), or GDAS' (operation, source, weight) without their weights."""
  edges = [tuple(edge[:2]) if len(edge) == 3 and isinstance(edge[2], float) else tuple(edge) for edge in edges]
  if any(len(edge) != 2 or type(edge[0]) is not str or type(edge[1]) is not int for edge in edges):
    raise ValueError(f"{name}: expected edges ('operation', source)")
  return tuple(edges)


def _is_edge_with_target(edge):
  return isinstance(edge, list | tuple) and [type(value) for value in edge] == [str, int, int]


def _group_by_target(name, edges, concat):
  """Groups FairDARTS' edges by their target and numbers the nodes again, without the nodes that have no edge.

  As in the official network, an edge that comes from such a node is left out.
  """
  numbers, nodes = {0: 0, 1: 1}, []
  for target in sorted({edge[1] for edge in edges}):
    given = [(operation, source) for operation, to, source in edges if to == target]
    _check_sources(given, target, name)
    if node := tuple((operation, numbers[source]) for operation, source in given if source in numbers):
      numbers[target] = len(numbers)
      nodes.append(node)
  return nodes, tuple(numbers[node] for node in concat if node in numbers)

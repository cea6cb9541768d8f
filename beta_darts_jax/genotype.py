"""What a search finds: one operation for every edge of the cell, as a value.

Legend: E edges, O candidate operations of an edge.
"""

import dataclasses
import re

import numpy as np

from beta_darts_jax.errors import InputError

_EDGE = re.compile(r'([A-Za-z0-9_]+)~(\d+)')


@dataclasses.dataclass(frozen=True)
class Genotype:
  """A discrete cell. Hashable, so it keys dictionaries and parametrizes modules.

  Attributes:
    nodes: for node 1, 2, …, its incoming edges as `(operation, source node)`;
      node 0 is the input of the cell.
  """

  nodes: tuple[tuple[tuple[str, int], ...], ...]

  def __str__(self) -> str:
    """The arch string of NAS-Bench-201: `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`."""
    return '+'.join('|' + '|'.join(f'{operation}~{source}' for operation, source in node) + '|' for node in self.nodes)

  @property
  def operations(self) -> tuple[str, ...]:
    """The operation of each edge, in the order of α's rows: [E]."""
    return tuple(operation for node in self.nodes for operation, _ in node)

  @classmethod
  def parse(cls, text: str) -> 'Genotype':
    """Reads an arch string.

    Raises:
      InputError: `text` is not of the form `|op~0|+|op~0|op~1|+…`.
    """
    nodes = []
    for target, part in enumerate(text.strip().split('+'), start=1):
      edges = [_EDGE.fullmatch(edge) for edge in part.strip('|').split('|')]
      if not (part.startswith('|') and part.endswith('|') and all(edges)):
        raise InputError(f'cannot read the cell {text!r}: expected |op~0|+|op~0|op~1|+|op~0|op~1|op~2|')
      node = tuple((edge[1], int(edge[2])) for edge in edges)
      if any(source >= target for _, source in node):
        raise InputError(f'cannot read the cell {text!r}: node {target} may only take from nodes below it')
      nodes.append(node)
    return cls(tuple(nodes))


def derive(betas, edges, operations) -> Genotype:
  """Arg-max per edge, `none` included: NAS-Bench-201's rule (FACTS: ties go to the first operation).

  Args:
    betas: [E, O] weights of the operations (or the logits; only their order counts).
    edges: E pairs `(target, source)`, grouped by target.
    operations: for each edge its O candidate names.
  """
  choice = np.argmax(np.asarray(betas), axis=-1)
  nodes: dict[int, list] = {}
  for (target, source), names, index in zip(edges, operations, choice, strict=True):
    nodes.setdefault(target, []).append((names[index], source))
  return Genotype(tuple(tuple(node) for node in nodes.values()))

"""Search spaces as frozen values, and β = softmax(α). E edges, O candidate operations of an edge."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from beta_darts_jax.errors import InputError
from beta_darts_jax.spaces.genotype import Cell, Genotype, derive_every_edge, derive_two_per_node
from beta_darts_jax.spaces.published import short_name

# skeleton → its cell types; each type has its own α
CELL_TYPES = {'nas_bench_201': ('cell',), 'darts': ('normal', 'reduce')}

ALPHA_NOISE = 1e-3  # standard deviation of the initial logits


@dataclasses.dataclass(frozen=True)
class SearchSpace:
  """The edges of a cell, the candidate operations of each edge, and the skeleton that stacks the cells.

  Your own space is one more value:

    SearchSpace('mine', 'darts', nodes=3, operations=('none', 'skip_connect', 'sep_conv_3x3'))

  Attributes:
    name: the name in messages.
    skeleton: the macro-architecture, a key of CELL_TYPES. A 'nas_bench_201' cell has one input, keeps one operation on
      every edge, and its output is its last node. A 'darts' cell has two inputs and keeps two edges per node; its
      output is the concatenation of its last four nodes; there are normal and reduction cells.
    nodes: number of intermediate nodes; every node has an edge from each node before it.
    operations: the candidates, in the order of α's columns. Either the names for all edges, or the names of each edge
      of each cell type (the same number everywhere). The first form is converted to the second one.
    auxiliary_skip: adds a skip connection of weight 1 to every edge, in the supernet and in the derived network.

  Raises:
    InputError: unknown skeleton, no nodes, or not the same number of candidates for each edge.

  Example:
    >>> space = SearchSpace('mine', 'darts', nodes=2, operations=('skip_connect', 'sep_conv_3x3'))
    >>> space.cell_types, space.alpha_shape
    (('normal', 'reduce'), (5, 2))
    >>> space.edges  # (target, source)
    ((2, 0), (2, 1), (3, 0), (3, 1), (3, 2))
  """

  name: str
  skeleton: str
  nodes: int
  operations: tuple
  auxiliary_skip: bool = False

  def __post_init__(self):
    if self.skeleton not in CELL_TYPES:
      raise InputError(f'{self.name}: skeleton={self.skeleton!r}: expected one of {", ".join(CELL_TYPES)}')
    if self.nodes < 1:
      raise InputError(f'{self.name}: nodes={self.nodes}: expected 1 or more')
    operations = self.operations
    if operations and all(isinstance(name, str) for name in operations):
      operations = ((operations,) * len(self.edges),) * len(self.cell_types)
    # a frozen dataclass is changed in this way only
    object.__setattr__(self, 'operations', tuple(tuple(tuple(names) for names in cell) for cell in operations))
    self._check_operations()

  def _check_operations(self):
    counts = [[len(names) for names in cell] for cell in self.operations]
    num_edges = [len(cell) for cell in counts]
    if num_edges != [len(self.edges)] * len(self.cell_types) or len({count for cell in counts for count in cell}) != 1:
      raise InputError(
        f'{self.name}: numbers of candidates {counts}: expected the same number '
        f'for each of {len(self.edges)} edges of {len(self.cell_types)} cell type(s)'
      )
    for names in {names for cell in self.operations for names in cell}:
      if len(set(names)) < len(names) or not set(names) - {'none'}:
        raise InputError(f'{self.name}: candidates {names}: expected different names, at least one of them not none')

  @property
  def cell_types(self) -> tuple[str, ...]:
    """The cell types; each one has its own α."""
    return CELL_TYPES[self.skeleton]

  @property
  def num_inputs(self) -> int:
    """Number of input nodes of a cell: 1 (NAS-Bench-201) or 2 (DARTS)."""
    return 1 if self.skeleton == 'nas_bench_201' else 2

  @property
  def edges(self) -> tuple[tuple[int, int], ...]:
    """`(target, source)` node pairs in the order of α's rows, grouped by target."""
    last = self.num_inputs + self.nodes
    return tuple((target, source) for target in range(self.num_inputs, last) for source in range(target))

  @property
  def concat(self) -> tuple[int, ...]:
    """The nodes whose concatenation is the output of a cell; () means that the last node is the output."""
    last = self.num_inputs + self.nodes
    return tuple(range(max(2, last - 4), last)) if self.skeleton == 'darts' else ()

  def candidates(self, cell_type: str) -> tuple[tuple[str, ...], ...]:
    """The names of the candidates of each edge of a cell type, [E][O]."""
    return self.operations[self.cell_types.index(cell_type)]

  @property
  def operation_names(self) -> set[str]:
    """The names of all candidates of all edges."""
    return {name for cell in self.operations for names in cell for name in names}

  @property
  def alpha_shape(self) -> tuple[int, int]:
    """Shape (E, O) of the α of one cell type."""
    return len(self.edges), len(self.operations[0][0])

  def init_alphas(self, key: jax.Array) -> dict[str, jax.Array]:
    """Draws the logits α from 1e-3·N(0, 1): `{cell type: [E, O]}`."""
    keys = jax.random.split(key, len(self.cell_types))
    return {
      cell_type: ALPHA_NOISE * jax.random.normal(cell_key, self.alpha_shape)
      for cell_type, cell_key in zip(self.cell_types, keys, strict=True)
    }

  def derive(self, betas: Mapping[str, ArrayLike]) -> Genotype:
    """Derives the discrete cells from β, `{cell type: [E, O]}`.

    The rules for one cell are genotype.derive_every_edge ('nas_bench_201') and genotype.derive_two_per_node ('darts').

    Example:
      >>> betas = {'cell': np.eye(5)[[3, 3, 3, 1, 3, 0]]}  # one row per edge
      >>> print(NAS_BENCH_201.derive(betas))
      |nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|none~2|
    """
    return Genotype(tuple(self._derive_cell(betas[cell_type], cell_type) for cell_type in self.cell_types))

  def _derive_cell(self, betas, cell_type) -> Cell:
    if self.skeleton == 'nas_bench_201':
      return derive_every_edge(betas, self.edges, self.candidates(cell_type))
    return derive_two_per_node(betas, self.edges, self.candidates(cell_type), self.concat)

  def check(self, genotype: Genotype) -> Genotype:
    """Returns `genotype` if it belongs to this space.

    Raises:
      InputError: the cells have other nodes or edges, or an operation is not a candidate of its edge.
    """
    if why := self._mismatch(genotype):
      raise InputError(f'{short_name(genotype)} does not belong to the search space {self.name}: {why}')
    return genotype

  def _mismatch(self, genotype: Genotype) -> str | None:
    """Returns why `genotype` does not belong to this space, None if it does."""
    given = [(len(cell.nodes), cell.num_inputs) for cell in genotype.cells]
    if given != [(self.nodes, self.num_inputs)] * len(self.cell_types):
      nodes = ', '.join(str(len(cell.nodes)) for cell in genotype.cells)
      return f'expected {len(self.cell_types)} cell(s) of {self.nodes} nodes, it has {len(given)} of {nodes}'
    mismatches = map(self._cell_mismatch, genotype.cells, self.cell_types)
    return next(filter(None, mismatches), None)

  def _cell_mismatch(self, cell: Cell, cell_type: str) -> str | None:
    pairs = tuple((target, source) for target, source, _ in cell.edges)
    if self.skeleton == 'nas_bench_201' and pairs != self.edges:
      return f'expected the edges {self.edges}, it has {pairs}'
    if len(set(pairs)) < len(pairs):
      return 'two edges of one node have the same source'
    if cell.concat != self.concat:
      return f'expected the output to concatenate nodes {list(self.concat)}, it has {list(cell.concat)}'
    for target, source, operation in cell.edges:
      names = self.candidates(cell_type)[self.edges.index((target, source))]
      if operation not in names:
        return f'{operation!r} is not one of {", ".join(names)}'
    return None

  def parse(self, text: str) -> Genotype:
    """Reads the text of a genotype of this space. Raises InputError if it is unreadable or of another space."""
    return self.check(Genotype.parse(text))

  def one_hot(self, genotype: Genotype) -> dict[str, jax.Array]:
    """Returns β with weight 1 on the operations of `genotype` and 0 elsewhere, `{cell type: [E, O]}`."""
    betas = {}
    for cell_type, cell in zip(self.cell_types, genotype.cells, strict=True):
      weights = np.zeros(self.alpha_shape, np.float32)
      for target, source, operation in cell.edges:
        edge = self.edges.index((target, source))
        weights[edge, self.candidates(cell_type)[edge].index(operation)] = 1
      betas[cell_type] = jnp.asarray(weights)
    return betas

  def random_genotype(self, rng: np.random.Generator) -> Genotype:
    """Draws the kept edges and their operations uniformly. In the DARTS family no operation is `none`."""
    return self.derive({cell_type: rng.random(self.alpha_shape) for cell_type in self.cell_types})


_NAS_BENCH_201_OPERATIONS = ('none', 'skip_connect', 'nor_conv_1x1', 'nor_conv_3x3', 'avg_pool_3x3')
NAS_BENCH_201 = SearchSpace('nas_bench_201', 'nas_bench_201', nodes=3, operations=_NAS_BENCH_201_OPERATIONS)
_DARTS_OPERATIONS = (
  'max_pool_3x3', 'avg_pool_3x3', 'skip_connect', 'sep_conv_3x3', 'sep_conv_5x5', 'dil_conv_3x3', 'dil_conv_5x5',
)  # fmt: skip
DARTS = SearchSpace('darts', 'darts', nodes=4, operations=_DARTS_OPERATIONS)
DARTS_WITH_NONE = SearchSpace('darts_with_none', 'darts', nodes=4, operations=('none', *_DARTS_OPERATIONS))

# S1 … S4: RobustDARTS (Zela et al., ICLR 2020). In S1 every edge has two candidates of its own.
_S1_OPERATIONS = (
  (  # normal cells; the edges into node 2, 3, 4 and 5
    ('skip_connect', 'dil_conv_3x3'), ('skip_connect', 'dil_conv_5x5'),  # → 2
    ('skip_connect', 'dil_conv_5x5'), ('skip_connect', 'sep_conv_3x3'), ('skip_connect', 'dil_conv_3x3'),  # → 3
    ('max_pool_3x3', 'skip_connect'), ('skip_connect', 'sep_conv_3x3'),  # → 4
    ('skip_connect', 'sep_conv_3x3'), ('skip_connect', 'dil_conv_3x3'),
    ('skip_connect', 'sep_conv_3x3'), ('max_pool_3x3', 'skip_connect'), ('skip_connect', 'dil_conv_3x3'),  # → 5
    ('dil_conv_3x3', 'dil_conv_5x5'), ('dil_conv_3x3', 'dil_conv_5x5'),
  ),
  (  # reduction cells
    ('max_pool_3x3', 'avg_pool_3x3'), ('max_pool_3x3', 'dil_conv_3x3'),  # → 2
    ('max_pool_3x3', 'avg_pool_3x3'), ('max_pool_3x3', 'avg_pool_3x3'), ('skip_connect', 'dil_conv_5x5'),  # → 3
    ('max_pool_3x3', 'avg_pool_3x3'), ('max_pool_3x3', 'sep_conv_3x3'),  # → 4
    ('skip_connect', 'dil_conv_3x3'), ('skip_connect', 'dil_conv_5x5'),
    ('max_pool_3x3', 'avg_pool_3x3'), ('max_pool_3x3', 'avg_pool_3x3'), ('skip_connect', 'dil_conv_5x5'),  # → 5
    ('skip_connect', 'dil_conv_5x5'), ('skip_connect', 'dil_conv_5x5'),
  ),
)  # fmt: skip
S1 = SearchSpace('s1', 'darts', nodes=4, operations=_S1_OPERATIONS)
S2 = SearchSpace('s2', 'darts', nodes=4, operations=('skip_connect', 'sep_conv_3x3'))
S3 = SearchSpace('s3', 'darts', nodes=4, operations=('none', 'skip_connect', 'sep_conv_3x3'))
S4 = SearchSpace('s4', 'darts', nodes=4, operations=('noise', 'sep_conv_3x3'))

SPACES = {space.name: space for space in (NAS_BENCH_201, DARTS, DARTS_WITH_NONE, S1, S2, S3, S4)}


def make_space(
  name: str, nodes: int = 0, operations: tuple[str, ...] = (), auxiliary_skip: bool = False
) -> SearchSpace:
  """Returns the space SPACES[name] with the given changes.

  Args:
    name: a key of SPACES.
    nodes: number of intermediate nodes; 0 keeps that of the space.
    operations: candidates of every edge; () keeps those of the space.
    auxiliary_skip: see SearchSpace.

  Raises:
    InputError: unknown name, or the changes do not give a valid space.
  """
  if name not in SPACES:
    raise InputError(f'unknown search space {name!r}: expected one of {", ".join(SPACES)}')
  space = SPACES[name]
  if len(operations) == 1:
    raise InputError(f'operations={operations}: expected two or more')
  if nodes not in (0, space.nodes) and not operations:
    candidates = {names for cell in space.operations for names in cell}
    if len(candidates) > 1:
      raise InputError(f'nodes={nodes}: {name} has different candidates on each edge, so give operations too')
    operations = candidates.pop()
  return dataclasses.replace(
    space, nodes=nodes or space.nodes, operations=operations or space.operations, auxiliary_skip=auxiliary_skip
  )


def softmax_betas(alphas: dict[str, jax.Array]) -> dict[str, jax.Array]:
  """Returns β = softmax(α) over the candidate operations of each edge (DARTS' relaxation), `{cell type: [E, O]}`.

  Example:
    >>> softmax_betas({'cell': jnp.zeros((1, 4))})['cell'].tolist()
    [[0.25, 0.25, 0.25, 0.25]]
  """
  return jax.tree.map(lambda alpha: jax.nn.softmax(alpha, axis=-1), alphas)

"""What can be searched: a search space is a frozen value.

Legend: E edges, O candidate operations of an edge.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from beta_darts_jax.errors import InputError
from beta_darts_jax.spaces import genotype as genotypes
from beta_darts_jax.spaces.genotype import LETTERS, Cell, Genotype, in_short

# skeleton -> the kinds of cell that it stacks
CELL_TYPES = {'nas_bench_201': ('cell',), 'darts': ('normal', 'reduce')}


@dataclasses.dataclass(frozen=True)
class SearchSpace:
  """The edges of a cell, what each may become, and how cells are stacked.

  A space of your own is one more value:

    SearchSpace('mine', 'darts', nodes=3, operations=('none', 'skip_connect', 'sep_conv_3x3'))

  Attributes:
    name: how configs and messages call it.
    skeleton: the macro-architecture, a key of CELL_TYPES. In 'nas_bench_201' a cell has one input, keeps one operation
      on every edge and gives its last node; in 'darts' it has two inputs, keeps two edges a node and gives the
      concatenation of its last four nodes, and there are normal and reduction cells.
    nodes: intermediate nodes; each takes an edge from every node before it.
    operations: candidates, in the order of α's columns: names for every edge alike, or for each cell type, for each
      edge, its names (equally many everywhere). Kept in the second form.
    auxiliary_skip: every edge adds a skip connection of weight 1, in the supernet and in the network.

  Raises:
    InputError: an unknown skeleton, no nodes, or candidates that do not make a rectangle.

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
      raise InputError(f'{self.name}: unknown skeleton {self.skeleton!r}: allowed are {", ".join(CELL_TYPES)}')
    if self.nodes < 1:
      raise InputError(f'{self.name}: nodes={self.nodes}, allowed are 1 or more')
    operations = self.operations
    if operations and all(isinstance(name, str) for name in operations):
      operations = ((operations,) * len(self.edges),) * len(self.cell_types)
    operations = tuple(tuple(tuple(names) for names in cell) for cell in operations)
    shapes = [[len(names) for names in cell] for cell in operations]
    widths = {width for shape in shapes for width in shape}
    if [len(shape) for shape in shapes] != [len(self.edges)] * len(self.cell_types) or len(widths) != 1:
      raise InputError(
        f'{self.name}: candidates of {shapes} edges, allowed are equally many '
        f'for each of {len(self.edges)} edges of {len(self.cell_types)} cell types'
      )
    for names in {names for cell in operations for names in cell}:
      if len(set(names)) < len(names) or not set(names) - {'none'}:
        raise InputError(f'{self.name}: candidates are {names}, allowed are different names, one of them not none')
    object.__setattr__(self, 'operations', operations)

  @property
  def cell_types(self) -> tuple[str, ...]:
    """The kinds of cell, each with its own α."""
    return CELL_TYPES[self.skeleton]

  @property
  def num_inputs(self) -> int:
    """Nodes that are inputs of the cell: 0, or 0 and 1."""
    return 1 if self.skeleton == 'nas_bench_201' else 2

  @property
  def edges(self) -> tuple[tuple[int, int], ...]:
    """`(target, source)` node pairs in the order of α's rows, grouped by target."""
    last = self.num_inputs + self.nodes
    return tuple((target, source) for target in range(self.num_inputs, last) for source in range(target))

  @property
  def concat(self) -> tuple[int, ...]:
    """Nodes whose concatenation is the output of a cell; () is the last node alone."""
    last = self.num_inputs + self.nodes
    return tuple(range(max(2, last - 4), last)) if self.skeleton == 'darts' else ()

  def candidates(self, cell_type: str) -> tuple[tuple[str, ...], ...]:
    """For each edge of a cell type the names of its operations."""
    return self.operations[self.cell_types.index(cell_type)]

  @property
  def operation_names(self) -> set[str]:
    """The candidates of all edges together."""
    return {name for cell in self.operations for names in cell for name in names}

  @property
  def alpha_shape(self) -> tuple[int, int]:
    """(E, O): the shape of one cell type's α."""
    return len(self.edges), len(self.operations[0][0])

  def init_alphas(self, key: jax.Array) -> dict[str, jax.Array]:
    """Logits α, 1e-3·N(0, 1): `{cell type: [E, O]}`."""
    keys = jax.random.split(key, len(self.cell_types))
    return {
      cell_type: 1e-3 * jax.random.normal(cell_key, self.alpha_shape)
      for cell_type, cell_key in zip(self.cell_types, keys, strict=True)
    }

  def derive(self, betas: Mapping[str, ArrayLike]) -> Genotype:
    """The discrete cells of `betas` (`{cell type: [E, O]}`): genotype.derive_every_edge or derive_two_per_node.

    Example:
      >>> betas = {'cell': np.eye(5)[[3, 3, 3, 1, 3, 0]]}  # a row an edge
      >>> print(NAS_BENCH_201.derive(betas))
      |nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|none~2|
    """
    if self.skeleton == 'nas_bench_201':
      return Genotype((genotypes.derive_every_edge(betas['cell'], self.edges, self.candidates('cell')),))
    cells = (
      genotypes.derive_two_per_node(betas[cell_type], self.edges, self.candidates(cell_type), self.concat)
      for cell_type in self.cell_types
    )
    return Genotype(tuple(cells))

  def check(self, genotype: Genotype) -> Genotype:
    """Returns `genotype` if it belongs to this space.

    Raises:
      InputError: its cells have other nodes or edges, or an operation is not a candidate of its edge.
    """
    form = f'{len(self.cell_types)} cell(s) of {self.nodes} nodes'
    if [(len(cell.nodes), cell.num_inputs) for cell in genotype.cells] != [(self.nodes, self.num_inputs)] * len(
      self.cell_types
    ):
      given = f'{len(genotype.cells)} of {", ".join(str(len(cell.nodes)) for cell in genotype.cells)}'
      raise self._not_of_it(genotype, f'allowed are {form}, it has {given}')
    for cell_type, cell in zip(self.cell_types, genotype.cells, strict=True):
      self._check_cell(cell, cell_type, genotype)
    return genotype

  def _check_cell(self, cell: Cell, cell_type, genotype):
    pairs = [(target, source) for target, source, _ in cell.edges]
    if self.skeleton == 'nas_bench_201' and tuple(pairs) != self.edges:
      raise self._not_of_it(genotype, f'its edges are {pairs}, allowed {self.edges}')
    if len(set(pairs)) < len(pairs):
      raise self._not_of_it(genotype, 'two edges of a node come from the same node')
    if cell.concat != self.concat:
      wrong = f'the output concatenates nodes {list(cell.concat)}, allowed {list(self.concat)}'
      raise self._not_of_it(genotype, wrong)
    for target, source, operation in cell.edges:
      names = self.candidates(cell_type)[self.edges.index((target, source))]
      if operation not in names:
        raise self._not_of_it(genotype, f'{operation!r} is not one of {", ".join(names)}')

  def _not_of_it(self, genotype, why):
    return InputError(f'{in_short(genotype)} is not of the space {self.name}: {why}')

  def parse(self, text: str) -> Genotype:
    """Reads the text form of a genotype of this space. Raises InputError."""
    return self.check(Genotype.parse(text))

  def one_hot(self, genotype: Genotype) -> dict[str, jax.Array]:
    """β with weight 1 on the operations of `genotype`, 0 elsewhere (so also on edges that it lacks)."""
    betas = {}
    for cell_type, cell in zip(self.cell_types, genotype.cells, strict=True):
      weights = np.zeros(self.alpha_shape, np.float32)
      for target, source, operation in cell.edges:
        e = self.edges.index((target, source))
        weights[e, self.candidates(cell_type)[e].index(operation)] = 1
      betas[cell_type] = jnp.asarray(weights)
    return betas

  def random_genotype(self, rng: np.random.Generator) -> Genotype:
    """Cells drawn uniformly: the edges that are kept and their operations (never `none` where the rule excludes it)."""
    return self.derive({cell_type: rng.random(self.alpha_shape) for cell_type in self.cell_types})


NAS_BENCH_201 = SearchSpace(
  'nas_bench_201', 'nas_bench_201', 3, ('none', 'skip_connect', 'nor_conv_1x1', 'nor_conv_3x3', 'avg_pool_3x3')
)
_DARTS = (
  'max_pool_3x3',
  'avg_pool_3x3',
  'skip_connect',
  'sep_conv_3x3',
  'sep_conv_5x5',
  'dil_conv_3x3',
  'dil_conv_5x5',
)
DARTS = SearchSpace('darts', 'darts', 4, _DARTS)
DARTS_WITH_NONE = SearchSpace('darts_with_none', 'darts', 4, ('none', *_DARTS))
_S1 = (  # the two candidates of each edge in genotype.LETTERS: of normal cells, of reduction cells (RobustDARTS)
  'kd kD kD ks kd mk ks ks kd ks mk kd dD dD',
  'ma md ma ma kD ma ms kd kD ma ma kD kD kD',
)
S1 = SearchSpace('s1', 'darts', 4, tuple(tuple(tuple(map(LETTERS.get, e)) for e in cell.split()) for cell in _S1))
S2 = SearchSpace('s2', 'darts', 4, ('skip_connect', 'sep_conv_3x3'))
S3 = SearchSpace('s3', 'darts', 4, ('none', 'skip_connect', 'sep_conv_3x3'))
S4 = SearchSpace('s4', 'darts', 4, ('noise', 'sep_conv_3x3'))

SPACES = {space.name: space for space in (NAS_BENCH_201, DARTS, DARTS_WITH_NONE, S1, S2, S3, S4)}


def make_space(
  name: str, nodes: int = 0, operations: tuple[str, ...] = (), auxiliary_skip: bool = False
) -> SearchSpace:
  """A space of SPACES, changed where something is given.

  Args:
    name: of the space to start from.
    nodes: intermediate nodes; 0 keeps them.
    operations: candidates of every edge; () keeps them.
    auxiliary_skip: see SearchSpace.

  Raises:
    InputError: no such space, or what is given does not make one.
  """
  if name not in SPACES:
    raise InputError(f'unknown search space {name!r}: allowed are {", ".join(SPACES)}')
  space = SPACES[name]
  if len(operations) == 1:
    raise InputError(f'the only operation {operations[0]!r} leaves nothing to choose: allowed are two or more')
  if nodes not in (0, space.nodes) and not operations:
    everywhere = {names for cell in space.operations for names in cell}
    if len(everywhere) > 1:
      raise InputError(f'{name} has candidates of its own for each edge: with other nodes, give the operations too')
    operations = everywhere.pop()
  return dataclasses.replace(
    space, nodes=nodes or space.nodes, operations=operations or space.operations, auxiliary_skip=auxiliary_skip
  )


def softmax_betas(alphas: dict[str, jax.Array]) -> dict[str, jax.Array]:
  """β = softmax(α) over the candidate operations of each edge: DARTS' relaxation, same tree as `alphas`.

  Example:
    >>> softmax_betas({'cell': jnp.zeros((1, 4))})['cell'].tolist()
    [[0.25, 0.25, 0.25, 0.25]]
  """
  return jax.tree.map(lambda alpha: jax.nn.softmax(alpha, axis=-1), alphas)

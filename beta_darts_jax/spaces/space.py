"""Search spaces as frozen values, and β = softmax(α). E edges, O candidate operations of an edge."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from beta_darts_jax.errors import InputError
from beta_darts_jax.spaces.genotype import (
  WITHOUT_WEIGHTS,
  Genotype,
  derive_chain,
  derive_every_edge,
  derive_two_per_node,
)
from beta_darts_jax.spaces.published import short_name
from beta_darts_jax.spaces.skeletons import SKELETONS, Place, Skeleton

ALPHA_NOISE = 1e-3  # standard deviation of the initial logits


@dataclasses.dataclass(frozen=True)
class SearchSpace:
  """The edges of a cell, the candidate operations of each edge, and the skeleton that stacks the cells.

  Your own space is one more value:

    SearchSpace('mine', 'darts', nodes=3, operations=('none', 'skip_connect', 'sep_conv_3x3'))

  Attributes:
    name: the name in messages.
    skeleton: the macro-architecture, a key of SKELETONS. A 'nas_bench_201' cell has one input, keeps one operation on
      every edge, and its output is its last node. A 'darts' cell has two inputs and keeps two edges per node; its
      output is the concatenation of its last four nodes; there are normal and reduction cells. 'mobile' has no cells
      that repeat: it is a chain of six stages of layers, and each layer has its own row of α. The first layers of the
      stages change the shape and have the type 'reduce'; the others have the type 'normal'.
    nodes: number of intermediate nodes of a cell; every node has an edge from each node before it. In 'mobile' it is
      the number of layers of each stage but the last one, which has one layer.
    operations: the candidates, in the order of α's columns. Either the names for all edges, or the names of each edge
      of each cell type (the same number for all edges of a type). The first form is converted to the second one. Then
      the layers of 'mobile' that change the shape have no operations that keep it.
    auxiliary_skip: adds a skip connection of weight 1 to every edge, in the supernet and in the derived network.

  Raises:
    InputError: unknown skeleton, too few nodes, not the same number of candidates for each edge of a type, equal
      candidates of an edge, or only `none`. In 'mobile' also: auxiliary skips, or no candidate that can change the
      number of channels.

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
    if self.skeleton not in SKELETONS:
      raise InputError(f'{self.name}: skeleton={self.skeleton!r}: expected one of {", ".join(SKELETONS)}')
    if self.nodes < (fewest := 2 if self.is_chain else 1):
      raise InputError(f'{self.name}: nodes={self.nodes}: expected {fewest} or more')
    if self.is_chain and self.auxiliary_skip:
      raise InputError(f'{self.name}: auxiliary_skip=True: expected False, because layers change the shape')
    operations = self.operations
    if operations and all(isinstance(name, str) for name in operations):
      # an operation without weights cannot change the number of channels
      changing = tuple(name for name in operations if name not in WITHOUT_WEIGHTS)
      if self.is_chain and not changing:
        raise InputError(f'{self.name}: candidates {operations}: expected one that can change the number of channels')
      operations = tuple(
        (changing if self.is_chain and cell_type == 'reduce' else operations,) * len(self.places(cell_type))
        for cell_type in self.cell_types
      )
    # a frozen dataclass is changed in this way only
    object.__setattr__(self, 'operations', tuple(tuple(tuple(names) for names in cell) for cell in operations))
    self._check_operations()

  def _check_operations(self):
    counts = [[len(names) for names in cell] for cell in self.operations]
    num_edges = [len(self.places(cell_type)) for cell_type in self.cell_types]
    if [len(cell) for cell in counts] != num_edges or any(len(set(cell)) != 1 for cell in counts):
      edges = ' and '.join(map(str, dict.fromkeys(num_edges)))
      raise InputError(
        f'{self.name}: numbers of candidates {counts}: expected the same number '
        f'for each of {edges} edges of {len(num_edges)} cell type(s)'
      )
    for names in {names for cell in self.operations for names in cell}:
      if len(set(names)) < len(names) or not set(names) - {'none'}:
        raise InputError(f'{self.name}: candidates {names}: expected different names, at least one of them not none')

  @property
  def _skeleton(self) -> Skeleton:
    return SKELETONS[self.skeleton]

  @property
  def is_chain(self) -> bool:
    """Whether the space is a chain of layers, without cells that repeat."""
    return self._skeleton.is_chain

  @property
  def cell_types(self) -> tuple[str, ...]:
    """The cell types; each one has its own α."""
    return self._skeleton.cell_types

  @property
  def num_inputs(self) -> int:
    """Number of input nodes of a cell: 2 in 'darts', otherwise 1."""
    return self._skeleton.num_inputs

  @property
  def depth_field(self) -> str:
    """The field of Supernet that has the number of cells; '' in 'mobile'."""
    return self._skeleton.depth_field

  @property
  def stem(self) -> str:
    """The stem of a derived network on small images, a value of `network.stem`."""
    return self._skeleton.stem

  @property
  def keeps_two_edges(self) -> bool:
    """Whether a node of a derived cell keeps two edges, and never `none`."""
    return self._skeleton.keeps_two_edges

  @property
  def edges(self) -> tuple[tuple[int, int], ...]:
    """`(target, source)` node pairs of a cell in the order of α's rows, grouped by target; not of 'mobile'."""
    return tuple((place.target, place.source) for place in self.places(self.cell_types[0]))

  def places(self, cell_type: str) -> tuple[Place, ...]:
    """The edge of a genotype that each row of a cell type's α stands for, [E]."""
    return self._skeleton.places(self.nodes, self.cell_types.index(cell_type))

  @property
  def concat(self) -> tuple[int, ...]:
    """The nodes whose concatenation is the output of a cell; () means that the last node is the output."""
    last = self.num_inputs + self.nodes
    return tuple(range(max(self.num_inputs, last - self._skeleton.num_outputs), last))

  def candidates(self, cell_type: str) -> tuple[tuple[str, ...], ...]:
    """The names of the candidates of each edge of a cell type, [E][O]."""
    return self.operations[self.cell_types.index(cell_type)]

  @property
  def operation_names(self) -> set[str]:
    """The names of all candidates of all edges."""
    return {name for cell in self.operations for names in cell for name in names}

  @property
  def alpha_shapes(self) -> dict[str, tuple[int, int]]:
    """Shapes (E, O) of α, by cell type."""
    return {name: (len(cell), len(cell[0])) for name, cell in zip(self.cell_types, self.operations, strict=True)}

  @property
  def alpha_shape(self) -> tuple[int, int]:
    """Shape (E, O) of the α of every cell type. Raises InputError if they differ, as in 'mobile': see alpha_shapes."""
    shapes = set(self.alpha_shapes.values())
    if len(shapes) > 1:
      raise InputError(f'{self.name} has α of the shapes {self.alpha_shapes}: expected the use of alpha_shapes')
    return shapes.pop()

  def init_alphas(self, key: jax.Array) -> dict[str, jax.Array]:
    """Draws the logits α from 1e-3·N(0, 1): `{cell type: [E, O]}`."""
    keys = jax.random.split(key, len(self.cell_types))
    return {
      cell_type: ALPHA_NOISE * jax.random.normal(cell_key, shape)
      for (cell_type, shape), cell_key in zip(self.alpha_shapes.items(), keys, strict=True)
    }

  def derive(self, betas: Mapping[str, ArrayLike]) -> Genotype:
    """Derives the discrete cells from β, `{cell type: [E, O]}`.

    The rules are genotype.derive_every_edge ('nas_bench_201'), genotype.derive_two_per_node ('darts') and
    genotype.derive_chain ('mobile').

    Example:
      >>> betas = {'cell': np.eye(5)[[3, 3, 3, 1, 3, 0]]}  # one row per edge
      >>> print(NAS_BENCH_201.derive(betas))
      |nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|none~2|
    """
    if self.is_chain:
      rows = ((self.places(name), self.candidates(name), betas[name]) for name in self.cell_types)
      return Genotype(derive_chain(rows))
    cells = []
    for cell_type in self.cell_types:
      beta, names = betas[cell_type], self.candidates(cell_type)
      if self.keeps_two_edges:
        cells.append(derive_two_per_node(beta, self.edges, names, self.concat))
      else:
        cells.append(derive_every_edge(beta, self.edges, names))
    return Genotype(tuple(cells))

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
    candidates = {
      place: names
      for cell_type in self.cell_types
      for place, names in zip(self.places(cell_type), self.candidates(cell_type), strict=True)
    }
    num_cells = max(place.cell for place in candidates) + 1
    places_by_cell = [sorted(place for place in candidates if place.cell == index) for index in range(num_cells)]
    if why := self._nodes_mismatch(genotype, places_by_cell):
      return why
    for index, (cell, places) in enumerate(zip(genotype.cells, places_by_cell, strict=True)):
      if why := self._cell_mismatch(index, cell, places, candidates):
        return why
    return None

  def _nodes_mismatch(self, genotype, places_by_cell) -> str | None:
    """Returns why the cells have other nodes than this space, None if they have not."""
    expected = [len({place.target for place in places}) for places in places_by_cell]
    given = [len(cell.nodes) for cell in genotype.cells]
    if given == expected and all(cell.num_inputs == self.num_inputs for cell in genotype.cells):
      return None
    nodes = ' or '.join(map(str, dict.fromkeys(expected)))
    return f'expected {len(expected)} cell(s) of {nodes} nodes, it has {len(given)} of {", ".join(map(str, given))}'

  def _cell_mismatch(self, index, cell, places, candidates) -> str | None:
    """Returns why a cell has other edges, another output or other operations, None if it has not."""
    given = [Place(index, target, source) for target, source, _ in cell.edges]
    if not self.keeps_two_edges and given != places:
      return f'expected the edges {_pairs(places)}, it has {_pairs(given)}'
    if len(set(given)) < len(given):
      return 'two edges of one node have the same source'
    if cell.concat != self.concat:
      return f'expected the output to concatenate nodes {list(self.concat)}, it has {list(cell.concat)}'
    for place, operation in zip(given, cell.operations, strict=True):
      if operation not in candidates[place]:
        return f'{operation!r} is not one of {", ".join(candidates[place])}'
    return None

  def parse(self, text: str) -> Genotype:
    """Reads the text of a genotype of this space. Raises InputError if it is unreadable or of another space."""
    return self.check(Genotype.parse(text))

  def one_hot(self, genotype: Genotype) -> dict[str, jax.Array]:
    """Returns β with weight 1 on the operations of a `genotype` of this space, 0 elsewhere, `{cell type: [E, O]}`."""
    kept, betas = genotype.operations_by_place, {}
    for cell_type, shape in self.alpha_shapes.items():
      weights = np.zeros(shape, np.float32)
      for row, (place, names) in enumerate(zip(self.places(cell_type), self.candidates(cell_type), strict=True)):
        if place in kept:
          weights[row, names.index(kept[place])] = 1
      betas[cell_type] = jnp.asarray(weights)
    return betas

  def random_genotype(self, rng: np.random.Generator) -> Genotype:
    """Draws the kept edges and their operations uniformly. In the DARTS family no operation is `none`."""
    return self.derive({cell_type: rng.random(shape) for cell_type, shape in self.alpha_shapes.items()})


def _pairs(places):
  return tuple((place.target, place.source) for place in places)


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

# inverted residuals of MobileNetV2 (Sandler et al., CVPR 2018) with the choices of ProxylessNAS (Cai et al., ICLR 2019)
_MOBILE_OPERATIONS = (*(f'mb_conv_{k}x{k}_e{e}' for k in (3, 5, 7) for e in (3, 6)), 'skip_connect')
MOBILE = SearchSpace('mobile', 'mobile', nodes=4, operations=_MOBILE_OPERATIONS)

SPACES = {space.name: space for space in (NAS_BENCH_201, DARTS, DARTS_WITH_NONE, S1, S2, S3, S4, MOBILE)}


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
    edges_differ = len({names for cell in space.operations for names in cell}) > 1
    if edges_differ and not space.is_chain:
      raise InputError(f'nodes={nodes}: {name} has different candidates on each edge, so give operations too')
    operations = space.candidates(space.cell_types[0])[0]  # in a chain those of the layers that keep the shape
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

"""What can be searched: a search space is a frozen value.

Legend: E edges, O candidate operations of an edge.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from beta_darts_jax import genotype as genotypes
from beta_darts_jax.errors import InputError
from beta_darts_jax.genotype import Genotype


@dataclasses.dataclass(frozen=True)
class SearchSpace:
  """The edges of a cell, what each may become, and how cells are stacked.

  Attributes:
    name: how configs and messages call it.
    skeleton: the macro-architecture, a key of `skeletons.SKELETONS`.
    cell_types: the kinds of cell, each with its own α.
    edges: `(target, source)` node pairs in the order of α's rows, grouped by target; node 0 is the input.
    operations: for each edge its candidate operations, in the order of α's columns.
  """

  name: str
  skeleton: str
  cell_types: tuple[str, ...]
  edges: tuple[tuple[int, int], ...]
  operations: tuple[tuple[str, ...], ...]

  @property
  def alpha_shape(self) -> tuple[int, int]:
    """(E, O): the shape of one cell type's α."""
    return len(self.edges), len(self.operations[0])

  def init_alphas(self, key: jax.Array) -> dict[str, jax.Array]:
    """Logits α, 1e-3·N(0, 1): `{cell type: [E, O]}`."""
    keys = jax.random.split(key, len(self.cell_types))
    return {
      cell_type: 1e-3 * jax.random.normal(cell_key, self.alpha_shape)
      for cell_type, cell_key in zip(self.cell_types, keys, strict=True)
    }

  def derive(self, betas) -> Genotype:
    """The discrete cell of `betas` (`{cell type: [E, O]}`; logits serve as well)."""
    (cell,) = (betas[cell_type] for cell_type in self.cell_types)
    return genotypes.derive(cell, self.edges, self.operations)

  def check(self, genotype: Genotype) -> Genotype:
    """Returns `genotype` if it belongs to this space.

    Raises:
      InputError: its edges are not this space's, or an operation is not a candidate of its edge.
    """
    edges = tuple((t, s) for t, node in enumerate(genotype.nodes, start=1) for _, s in node)
    if edges != self.edges:
      raise InputError(f'{genotype} is not a cell of {self.name}: its edges are {edges}, allowed {self.edges}')
    for operation, names in zip(genotype.operations, self.operations, strict=True):
      if operation not in names:
        raise InputError(f'{genotype} is not a cell of {self.name}: {operation!r} is not one of {", ".join(names)}')
    return genotype

  def parse(self, text: str) -> Genotype:
    """Reads the text form of a genotype of this space. Raises InputError."""
    return self.check(Genotype.parse(text))

  def one_hot(self, genotype: Genotype) -> dict[str, jax.Array]:
    """β with weight 1 on the operations of `genotype`, 0 elsewhere: `{cell type: [E, O]}`."""
    index = [names.index(op) for op, names in zip(genotype.operations, self.operations, strict=True)]
    return {self.cell_types[0]: jax.nn.one_hot(jnp.array(index), self.alpha_shape[1])}

  def random_genotype(self, rng: np.random.Generator) -> Genotype:
    """A cell drawn uniformly: each edge gets one of its operations."""
    return self.derive({cell_type: rng.random(self.alpha_shape) for cell_type in self.cell_types})


NAS_BENCH_201 = SearchSpace(
  name='nas_bench_201',
  skeleton='nas_bench_201',
  cell_types=('cell',),
  edges=((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)),
  operations=(('none', 'skip_connect', 'nor_conv_1x1', 'nor_conv_3x3', 'avg_pool_3x3'),) * 6,
)


def softmax_betas(alphas):
  """β = softmax(α) over the candidate operations of each edge: DARTS' relaxation, same tree as `alphas`."""
  return jax.tree.map(lambda alpha: jax.nn.softmax(alpha, axis=-1), alphas)

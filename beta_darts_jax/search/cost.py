"""The costs of the operations in a search with the regularizer `cost`."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable, Mapping

import numpy as np

from beta_darts_jax.errors import InputError
from beta_darts_jax.method.regularizers import expected_cost, largest_cost
from beta_darts_jax.networks import COUNTS, PlacedOperation, Supernet, operation_costs
from beta_darts_jax.runtime.files import read_json
from beta_darts_jax.runtime.logs import Cost
from beta_darts_jax.spaces.genotype import Genotype
from beta_darts_jax.spaces.space import SearchSpace

_SCRIPT = 'benchmarks/latency.py'
SCALES = {'multiply_adds': (1e6, 'M multiply-adds'), 'parameters': (1e6, 'M parameters'), 'milliseconds': (1.0, 'ms')}


@dataclasses.dataclass(frozen=True)
class Costs:
  """What the cells of a supernet can cost.

  Attributes:
    unit: 'multiply_adds', 'parameters' or 'milliseconds'.
    of_operations: the cost of each operation of each edge, {cell type: [E, O]}, summed over the cells.
  """

  unit: str
  of_operations: Mapping[str, np.ndarray]

  def record(self) -> dict[str, str]:
    """Returns a digest of measured costs, which a run that resumes compares; {} for costs that are counted."""
    if self.unit != 'milliseconds':
      return {}
    texts = {name: of_cell.tolist() for name, of_cell in self.of_operations.items()}
    return {'latencies_sha256': hashlib.sha256(json.dumps(texts).encode()).hexdigest()}

  def of_cell(self, space: SearchSpace, genotype: Genotype, betas: Mapping) -> Cost:
    """Returns the expected cost for β {cell type: [E, O]} without edge weights, and the cost of the derived cells."""
    return {
      'unit': self.unit,
      'expected': self._sum(betas),
      'derived': self.derived(space, genotype),
      'largest': largest_cost(self.of_operations),
    }

  def derived(self, space: SearchSpace, genotype: Genotype) -> float:
    """Returns the cost of the derived cells."""
    return self._sum(space.one_hot(genotype))

  def _sum(self, betas) -> float:
    return float(expected_cost(self.of_operations, {name: np.asarray(beta, float) for name, beta in betas.items()}))


def make_costs(unit: str, supernet: Supernet, image_size: tuple[int, int]) -> Costs:
  """Counts the costs of a supernet on images of (height, width), or reads them.

  Args:
    unit: 'multiply_adds', 'parameters', or the path of a file of benchmarks/latency.py.
    supernet: the supernet of the search.
    image_size: in pixels.

  Raises:
    InputError: the file cannot be read, or it does not have all operations.
  """
  if unit in COUNTS:
    return Costs(unit, operation_costs(supernet, image_size, unit))
  return Costs('milliseconds', operation_costs(supernet, image_size, read_latencies(unit)))


def describe_cost(cost: Cost) -> str:
  """Writes a cost of result.json."""
  scale, unit = SCALES[cost['unit']]
  derived, largest, expected = (cost[name] / scale for name in ('derived', 'largest', 'expected'))
  return f'{derived:.3g} of at most {largest:.3g} {unit}, expected {expected:.3g}'


def read_latencies(path: str) -> Callable[[PlacedOperation], float]:
  """Returns a function from an operation to its milliseconds in a file of benchmarks/latency.py. Raises InputError."""
  file = pathlib.Path(path)
  if not file.is_file():
    raise InputError(f'unit={path!r}: expected {", ".join(COUNTS)} or a JSON file of {_SCRIPT}')
  values = read_json(file, f'expected JSON of {_SCRIPT}')
  try:
    latencies = {
      PlacedOperation(**{name: row[name] for name in PlacedOperation._fields if name in row}): float(
        row['milliseconds']
      )
      for row in values['operations']
    }
  except (KeyError, TypeError, ValueError):
    raise InputError(f'{file}: expected a list "operations" as {_SCRIPT} writes it') from None

  def latency(operation: PlacedOperation) -> float:
    if operation not in latencies:
      wanted = ', '.join(f'{name}={value}' for name, value in operation._asdict().items())
      raise InputError(
        f'{file} has no latency for {wanted}: measure this supernet at the size of these images with {_SCRIPT}'
      )
    return latencies[operation]

  return latency

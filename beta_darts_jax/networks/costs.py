"""What operations and networks cost: parameters and multiply-adds, counted in their modules.

Legend: E edges, O candidate operations of an edge, C channels.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

from beta_darts_jax.errors import InputError
from beta_darts_jax.networks.mobile.stages import placed_layers
from beta_darts_jax.networks.operations import OPERATIONS
from beta_darts_jax.networks.plan import cell_plan, edge_stride
from beta_darts_jax.networks.supernet import Supernet

# ---- a network ----


def multiply_adds(network: nn.Module, variables, image_shape: tuple[int, int, int]) -> int:
  """Counts the multiply-adds of convolutions and linear layers for one image, which the field reports as FLOPs.

  It counts in the traced evaluation pass, which any network has; the auxiliary head is not part of that pass. For the
  cells of NAS-Bench-201 the result is the benchmark's figure without the ten additions of the classifier's bias.

  Args:
    network: Network, NasBench201Network or MobileNetwork.
    variables: its variables, or their shapes.
    image_shape: (H, W, C).
  """

  def evaluate(variables, image):
    return network.apply(variables, image, train=False, rngs={'draw': jax.random.key(0)})

  image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  return _multiply_adds(jax.make_jaxpr(evaluate)(variables, image).jaxpr)


def _multiply_adds(jaxpr) -> int:
  total = 0
  for equation in jaxpr.eqns:
    inner = [_multiply_adds(sub) for sub in jax.extend.core.jaxprs_in_params(equation.params)]
    name = equation.primitive.name
    if name == 'conv_general_dilated':  # each output costs the filter's height × width × input channels
      filters, dimensions = equation.invars[1].aval.shape, equation.params['dimension_numbers']
      total += equation.outvars[0].aval.size * math.prod(filters) // filters[dimensions.rhs_spec[0]]
    elif name == 'dot_general':
      contracted = equation.params['dimension_numbers'][0][0]
      total += equation.outvars[0].aval.size * math.prod(equation.invars[0].aval.shape[i] for i in contracted)
    elif name == 'cond':  # the forms for different backends; the last is the plain one
      total += inner[-1]
    else:
      total += sum(inner) * equation.params.get('length', 1)
  return total


# ---- the operations of a supernet ----


class PlacedOperation(NamedTuple):
  """An operation with the sizes of one place in a network."""

  name: str  # a key of OPERATIONS
  channels: int  # of the output
  stride: int
  height: int  # of the input, in pixels, as the width
  width: int
  input_channels: int = 0  # 0: as many as the output has

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """(H, W, C) of the input."""
    return self.height, self.width, self.input_channels or self.channels

  def make(self) -> nn.Module:
    """Returns its module as in the derived network, where batch normalization has scale and bias."""
    return OPERATIONS[self.name](channels=self.channels, stride=self.stride, affine=True, dtype=None)

  def init(self):
    """Returns the variables of the module."""
    keys = {'params': jax.random.key(0), 'draw': jax.random.key(1)}
    return self.make().init(keys, jnp.zeros((1, *self.image_shape)), train=False)


def placed_operations(
  supernet: Supernet, image_size: tuple[int, int]
) -> Iterator[tuple[str, int, int, PlacedOperation]]:
  """Yields (cell type, edge, column of α, operation) for each candidate in each cell, for images of (height, width)."""
  space = supernet.space
  if space.is_chain:
    for cell_type, row, k, sizes in placed_layers(space, supernet.channels, image_size):
      yield cell_type, row, k, PlacedOperation(*sizes)
    return
  if space.depth_field == 'layers':
    cells = [(cell.cell_type, cell.channels) for cell in cell_plan(supernet.layers, supernet.channels)]
    if supernet.stem == 'imagenet':  # three convolutions of stride 2; images have multiples of 32 pixels
      image_size = image_size[0] // 8, image_size[1] // 8
  else:
    cells = [('cell', supernet.channels * 2**stage) for stage in range(3) for _ in range(supernet.cells_per_stage)]
  for cell_type, channels in cells:
    factor = channels // supernet.channels  # a reduction doubles the channels and halves the size of the nodes
    for e, (_, source) in enumerate(space.edges):
      stride = edge_stride(cell_type, source, space.num_inputs)
      height, width = (stride * pixels // factor for pixels in image_size)
      for k, name in enumerate(space.candidates(cell_type)[e]):
        yield cell_type, e, k, PlacedOperation(name, channels, stride, height, width)


def _parameters(operation: PlacedOperation) -> int:
  shapes = jax.eval_shape(operation.init)
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes.get('params', {})))


def _operation_multiply_adds(operation: PlacedOperation) -> int:
  return multiply_adds(operation.make(), jax.eval_shape(operation.init), operation.image_shape)


COUNTS: dict[str, Callable[[PlacedOperation], float]] = {
  'multiply_adds': _operation_multiply_adds,
  'parameters': _parameters,
}


def operation_costs(
  supernet: Supernet, image_size: tuple[int, int], unit: str | Callable[[PlacedOperation], float] = 'multiply_adds'
) -> dict[str, np.ndarray]:
  """Returns the cost of each operation of each edge, {cell type: [E, O]}, summed over all cells of the type.

  The operations are those of the derived network, with the channels and the cells of the supernet. So the costs of the
  chosen operations and a constant are the cost of that network. Auxiliary skip connections are not counted.

  Args:
    supernet: its space, its channels and its number of cells determine the costs.
    image_size: (height, width) of the images in pixels.
    unit: 'multiply_adds' of one image, 'parameters', or a function of a PlacedOperation that returns its cost.

  Raises:
    InputError: unknown unit.

  Example:
    >>> from beta_darts_jax.spaces.space import NAS_BENCH_201
    >>> supernet = Supernet(NAS_BENCH_201, num_classes=10, channels=4, cells_per_stage=1)
    >>> operation_costs(supernet, (8, 8), 'parameters')['cell'][0].astype(int).tolist()  # none, skip, 1×1, 3×3, pool
    [0, 0, 392, 3080, 0]
  """
  if isinstance(unit, str):
    if unit not in COUNTS:
      raise InputError(f'unit={unit!r}: expected one of {", ".join(COUNTS)}, or a function of a PlacedOperation')
    unit = COUNTS[unit]
  cost_of = functools.cache(unit)
  costs = {cell_type: np.zeros(shape) for cell_type, shape in supernet.space.alpha_shapes.items()}
  for cell_type, edge, k, operation in placed_operations(supernet, image_size):
    costs[cell_type][edge, k] += cost_of(operation)
  return costs

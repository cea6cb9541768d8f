"""OLES: the weights of each candidate operation stop early (Jiang et al., NeurIPS 2023).

An operation stops when the gradients of its weights on training and validation images no longer agree. In the tree of
the weights, the operation o of equal edges is the subtree `…/edges_FIRST/o`. Its arrays have leading axes over cells
and edges. S is the shape of these axes, so there are S operations.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

Path = tuple[str, ...]
KERNEL_AXES = 4  # of a convolution: height, width, channels, channels


class OlesState(NamedTuple):
  """The state of `stop_operations`.

  Attributes:
    inner: state of the optimizer.
    steps: [] int32, steps of the current window.
    cosines: {operation: [S]}, cosines of the two gradients, summed over the window.
    stopped: {operation: bool [S]}.
  """

  inner: Any
  steps: jax.Array
  cosines: dict[str, jax.Array]
  stopped: dict[str, jax.Array]


def stop_operations(
  optimizer: optax.GradientTransformation, window: int = 20, threshold: float = 0.4
) -> optax.GradientTransformationExtraArgs:
  """Stops an operation when the mean cosine of its two gradients over a window of steps is below the threshold.

  The weights of a stopped operation do not change again. Operations without convolutions never stop.

  Args:
    optimizer: the optimizer of all weights.
    window: steps.
    threshold: smallest mean cosine with which an operation goes on, −1 … 1.

  Returns:
    A transformation whose `update` also needs `valid_gradient`, a function that returns the gradient of the loss on the
    validation batch, a tree like the weights.
  """

  def init(params):
    shapes = _stacks(params)
    return OlesState(
      inner=optimizer.init(params),
      steps=jnp.zeros((), jnp.int32),
      cosines={name: jnp.zeros(shape, jax.tree.leaves(params)[0].dtype) for name, shape in shapes.items()},
      stopped={name: jnp.zeros(shape, bool) for name, shape in shapes.items()},
    )

  def update(updates, state, params=None, *, valid_gradient, **extra):
    del extra
    cosines = optax.tree.add(state.cosines, _cosines(updates, valid_gradient()))
    steps = state.steps + 1
    is_end = steps == window
    stopped = {name: old | (is_end & (cosines[name] / window < threshold)) for name, old in state.stopped.items()}
    moved, inner = optimizer.update(updates, state.inner, params)
    cosines = jax.tree.map(lambda total: jnp.where(is_end, 0, total), cosines)
    return _hold(moved, stopped), OlesState(inner, jnp.where(is_end, 0, steps), cosines, stopped)

  return optax.GradientTransformationExtraArgs(init, update)


def restart(init, state, params):
  """Returns the state of an optimizer that starts again by its `init`. Operations that have stopped stay stopped."""
  new = init(params)
  return new._replace(stopped=state.stopped) if isinstance(state, OlesState) else new


def _operation(path: Path) -> str:
  """The name of the operation to which an array belongs; '' if it belongs to none."""
  first = next((i for i, part in enumerate(path) if part.startswith('edges_')), None)
  return '' if first is None else '.'.join(path[: first + 2])


def _stacks(params) -> dict[str, tuple[int, ...]]:
  """S of each operation that has convolutions."""
  return {
    _operation(path): array.shape[:-KERNEL_AXES]
    for path, array in flatten_dict(params).items()
    if path[-1] == 'kernel' and array.ndim >= KERNEL_AXES and _operation(path)
  }


def _cosines(first, second) -> dict[str, jax.Array]:
  """The cosines [S] of two gradients, operation by operation; 0 where a gradient is 0."""
  shapes, other = _stacks(first), flatten_dict(second)
  products: dict[str, list[Any]] = {name: [0.0, 0.0, 0.0] for name in shapes}
  for path, x in flatten_dict(first).items():
    name = _operation(path)
    if name in shapes:
      axes, y = tuple(range(len(shapes[name]), x.ndim)), other[path]
      products[name] = [
        total + jnp.sum(product, axes) for total, product in zip(products[name], (x * y, x * x, y * y), strict=True)
      ]
  return {name: xy * jax.lax.rsqrt(jnp.maximum(xx * yy, 1e-30)) for name, (xy, xx, yy) in products.items()}


def _hold(updates, stopped):
  """Updates that are 0 for the stopped operations."""
  flat = flatten_dict(updates)
  for path, array in flat.items():
    mask = stopped.get(_operation(path))
    if mask is not None:
      flat[path] = jnp.where(mask.reshape(mask.shape + (1,) * (array.ndim - mask.ndim)), 0, array)
  return unflatten_dict(flat)

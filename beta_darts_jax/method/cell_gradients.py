"""The gradient of the training loss in β of every single cell, for the layer alignment of Λ-DARTS.

Cell c of the supernet computes with β + o_c, where o_c is its offset. Its gradient is that of the loss in o_c at o = 0.
Offsets and gradients are trees {cell type: [cells, E, O]}.
"""

import collections
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from beta_darts_jax.method.losses import make_loss


class StepInputs(NamedTuple):
  """What the loss of a step needs besides the weights and β.

  Attributes:
    batch_stats: the statistics of BatchNorm.
    batch: (images, labels).
    key: key of the operations that draw.
  """

  batch_stats: Any
  batch: tuple[jax.Array, jax.Array]
  key: jax.Array


def make_loss_of_offsets(supernet, class_weights: Sequence[float] = ()) -> Callable:
  """Builds `loss(params, betas, offsets, inputs: StepInputs)` → nats."""
  loss = make_loss(supernet, class_weights)

  def loss_of_offsets(params, betas, offsets, inputs):
    collection = _to_collection(offsets, _offset_shapes(supernet, params, betas, inputs))
    return loss(params, betas, *inputs, offsets=collection)[0]

  return loss_of_offsets


def make_cell_gradients(supernet, class_weights: Sequence[float] = ()) -> Callable:
  """Builds `gradients(params, betas, inputs: StepInputs)`: the gradient of every cell.

  The result is differentiable in the weights and in β by the identity ∂⟨g, v⟩/∂w = d/dt ∇_w L(w, β, o = t·v) at t = 0:
  forward over reverse, the fast way.
  """
  loss = make_loss_of_offsets(supernet, class_weights)

  @jax.custom_vjp
  def gradients(params, betas, inputs):
    return jax.grad(loss, argnums=2)(params, betas, _zeros(_offset_shapes(supernet, params, betas, inputs)), inputs)

  def forward(params, betas, inputs):
    return gradients(params, betas, inputs), (params, betas, inputs)

  def backward(residuals, cotangents):
    params, betas, inputs = residuals

    def both_gradients(offsets):
      return jax.grad(loss, argnums=(0, 1))(params, betas, offsets, inputs)

    zeros = jax.tree.map(jnp.zeros_like, cotangents)
    return *jax.jvp(both_gradients, (zeros,), (cotangents,))[1], None

  gradients.defvjp(forward, backward)
  return gradients


def _offset_shapes(supernet, params, betas, inputs):
  """Shapes of the β that each cell uses, in the tree of the collection 'offsets'."""
  images, _ = inputs.batch
  variables = {'params': params, 'batch_stats': inputs.batch_stats}

  def apply():
    return supernet.apply(variables, images, betas, mutable=['intermediates'], rngs={'draw': inputs.key})

  return jax.eval_shape(apply)[1]['intermediates']


def _zeros(offset_shapes):
  """Offsets of 0, {cell type: [cells, E, O]}."""
  shapes = collections.defaultdict(list)
  for path, shape in jax.tree_util.tree_leaves_with_path(offset_shapes):
    shapes[path[-1].key].append(shape)
  return {
    name: jnp.zeros((sum(map(_num_cells, of_type)), *of_type[0].shape[-2:]), of_type[0].dtype)
    for name, of_type in shapes.items()
  }


def _num_cells(array) -> int:
  """The number of cells that one array […, E, O] of the collection 'offsets' serves."""
  return math.prod(array.shape[:-2])


def _to_collection(offsets, offset_shapes):
  """Converts offsets {cell type: [cells, E, O]} to the tree of the collection 'offsets'."""
  used = dict.fromkeys(offsets, 0)

  def take(path, array):
    name = path[-1].key
    first, used[name] = used[name], used[name] + _num_cells(array)
    return offsets[name][first : used[name]].reshape(array.shape)

  return jax.tree_util.tree_map_with_path(take, offset_shapes)

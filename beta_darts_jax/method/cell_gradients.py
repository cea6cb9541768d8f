"""The gradient of the training loss in β of every single cell, for the layer alignment of Λ-DARTS.

Cell c of the supernet computes with β + o_c, where o_c is its offset. Its gradient is that of the loss in o_c at o = 0.
Offsets and gradients are trees {cell type: [cells, E, O]}.
"""

import collections
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from beta_darts_jax.method.losses import make_loss


def make_loss_of_offsets(supernet, class_weights: Sequence[float] = ()) -> Callable:
  """Builds `loss(params, betas, offsets, rest)` → nats; `rest` is (batch_stats, batch, key)."""
  loss = make_loss(supernet, class_weights)

  def loss_of_offsets(params, betas, offsets, rest):
    batch_stats, batch, key = rest
    placed = _place(offsets, _places(supernet, params, betas, rest))
    return loss(params, betas, batch_stats, batch, key, offsets=placed)[0]

  return loss_of_offsets


def make_cell_gradients(supernet, class_weights: Sequence[float] = ()) -> Callable:
  """Builds `gradients(params, betas, rest)`: the gradient of every cell; `rest` is (batch_stats, batch, key).

  The result is differentiable in the weights and in β by the identity ∂⟨g, v⟩/∂w = d/dt ∇_w L(w, β, o = t·v) at t = 0:
  forward over reverse, the fast way.
  """
  loss = make_loss_of_offsets(supernet, class_weights)

  @jax.custom_vjp
  def gradients(params, betas, rest):
    return jax.grad(loss, argnums=2)(params, betas, _zeros(_places(supernet, params, betas, rest)), rest)

  def forward(params, betas, rest):
    return gradients(params, betas, rest), (params, betas, rest)

  def backward(residuals, cotangents):
    params, betas, rest = residuals

    def both_gradients(offsets):
      return jax.grad(loss, argnums=(0, 1))(params, betas, offsets, rest)

    zeros = jax.tree.map(jnp.zeros_like, cotangents)
    return *jax.jvp(both_gradients, (zeros,), (cotangents,))[1], None

  gradients.defvjp(forward, backward)
  return gradients


def _places(supernet, params, betas, rest):
  """Shapes of the β that each cell uses, in the tree of the collection 'offsets'."""
  batch_stats, (images, _), key = rest
  variables = {'params': params, 'batch_stats': batch_stats}

  def apply():
    return supernet.apply(variables, images, betas, mutable=['intermediates'], rngs={'draw': key})

  return jax.eval_shape(apply)[1]['intermediates']


def _zeros(places):
  """Offsets of 0."""
  shapes = collections.defaultdict(list)
  for path, place in jax.tree_util.tree_leaves_with_path(places):
    shapes[path[-1].key].append(place)
  return {
    name: jnp.zeros((sum(map(_num_cells, parts)), *parts[0].shape[-2:]), parts[0].dtype)
    for name, parts in shapes.items()
  }


def _num_cells(place) -> int:
  """The number of cells that one array of the collection 'offsets' serves."""
  return math.prod(place.shape[:-2])


def _place(offsets, places):
  """Converts offsets {cell type: [cells, E, O]} to the tree of the collection 'offsets'."""
  used = dict.fromkeys(offsets, 0)

  def take(path, place):
    name = path[-1].key
    first, used[name] = used[name], used[name] + _num_cells(place)
    return offsets[name][first : used[name]].reshape(place.shape)

  return jax.tree_util.tree_map_with_path(take, places)

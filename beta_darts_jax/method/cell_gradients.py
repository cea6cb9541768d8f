"""The gradient of every single cell in its own architecture weights, for the layer alignment of Λ-DARTS."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from beta_darts_jax.method.losses import make_loss


def make_cell_gradients(supernet, class_weights: Sequence[float] = ()) -> Callable:
  """Builds `cell_gradients(alphas, relax, params, batch_stats, batch, key)` → {cell type: [cells, E, O]}.

  Each cell c of the supernet gets an α of its own; the result has the gradients of the loss in these, in no particular
  order. `relax` is the function α → β. The result is differentiable in α.
  """
  beta_gradients = _make_beta_gradients(supernet, class_weights)

  def cell_gradients(alphas, relax, params, batch_stats, batch, key):
    betas, pull_back = jax.vjp(relax, alphas)
    by_type = {name: [] for name in alphas}
    gradients = beta_gradients(betas, params, (batch_stats, batch, key))
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
      by_type[path[-1].key].append(gradient.reshape(-1, *gradient.shape[-2:]))
    zeros = jax.tree.map(jnp.zeros_like, betas)

    def to_alpha(name):
      """[cells, E, O] gradients in β → gradients in α, by the derivative of `relax`."""
      stacked = jnp.concatenate(by_type[name])
      return jax.vmap(lambda gradient: pull_back(zeros | {name: gradient})[0][name])(stacked)

    return {name: to_alpha(name) for name, parts in by_type.items() if parts}

  return cell_gradients


def _make_beta_gradients(supernet, class_weights):
  """Builds `gradients(betas, params, rest)`: for each cell c the gradient g_c of L in its offset o_c, at o = 0.

  Cell c computes with β + o_c. The result is a tree like the collection 'offsets'. It is differentiable in β by the
  identity ∂⟨g, v⟩/∂β = d/dt ∇_β L(β, o = t·v) at t = 0: forward over reverse, the fast way.
  """
  loss = make_loss(supernet, class_weights)

  def loss_of_offsets(params, betas, offsets, rest):
    batch_stats, batch, key = rest
    return loss(params, betas, batch_stats, batch, key, offsets=offsets)[0]

  @jax.custom_vjp
  def gradients(betas, params, rest):
    shapes = _offset_shapes(supernet, params, betas, rest)
    offsets = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return jax.grad(loss_of_offsets, argnums=2)(params, betas, offsets, rest)

  def forward(betas, params, rest):
    return gradients(betas, params, rest), (betas, params, rest)

  def backward(residuals, cotangents):
    betas, params, rest = residuals

    # Both gradients are computed for the reason given in hypergradients._mixed_derivative.
    def both_gradients(offsets):
      return jax.grad(loss_of_offsets, argnums=(0, 1))(params, betas, offsets, rest)

    zeros = jax.tree.map(jnp.zeros_like, cotangents)
    return jax.jvp(both_gradients, (zeros,), (cotangents,))[1][1], None, None

  gradients.defvjp(forward, backward)
  return gradients


def _offset_shapes(supernet, params, betas, rest):
  """Shapes of the β that each cell uses, in the tree of the collection 'offsets'."""
  batch_stats, (images, _), key = rest
  variables = {'params': params, 'batch_stats': batch_stats}

  def apply():
    return supernet.apply(variables, images, betas, mutable=['intermediates'], rngs={'draw': key})

  return jax.eval_shape(apply)[1]['intermediates']

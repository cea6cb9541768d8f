"""The loss of a supernet as a function of its weights and β; of every cell's own share in its gradient."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from beta_darts_jax.metrics import accuracy, cross_entropy


def make_loss(supernet) -> Callable:
  """Builds `loss(params, betas, batch_stats, batch, key, train=True, offsets=None)` → (nats, (accuracy, batch_stats)).

  `batch` is (images [B, H, W, C], labels [B]), `key` that of operations that draw, `offsets` what each cell adds to
  its β. Without `train` BatchNorm uses the running statistics `batch_stats` and leaves them.
  """

  def loss(params, betas, batch_stats, batch, key, train=True, offsets=None):
    images, labels = batch
    variables = {'params': params, 'batch_stats': batch_stats} | ({} if offsets is None else {'offsets': offsets})
    apply = lambda **how: supernet.apply(variables, images, betas, train=train, rngs={'draw': key}, **how)
    logits, updates = apply(mutable=['batch_stats']) if train else (apply(), {'batch_stats': batch_stats})
    return cross_entropy(logits, labels), (accuracy(logits, labels), updates['batch_stats'])

  return loss


def make_cell_gradients(supernet) -> Callable:
  """Builds `cell_gradients(alphas, relax, params, batch_stats, batch, key)` → {cell type: [cells, E, O]}.

  For each cell of the supernet, in no particular order, the gradient of the loss in an α of its own; `relax` is the
  function α → β.
  """
  loss = make_loss(supernet)

  def cell_gradients(alphas, relax, params, batch_stats, batch, key):
    betas, pull_back = jax.vjp(lambda alphas: {name: relax(alphas)[name] for name in alphas}, alphas)
    complete = relax(alphas) | betas
    offsets = jax.tree.map(jnp.zeros_like, _cells_betas(supernet, params, batch_stats, batch, complete, key))
    gradients = jax.grad(lambda offsets: loss(params, complete, batch_stats, batch, key, offsets=offsets)[0])(offsets)
    found = {name: [] for name in alphas}
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
      found[path[-1].key].append(gradient.reshape(-1, *gradient.shape[-2:]))
    stacked = {name: jnp.concatenate(parts) for name, parts in found.items() if parts}
    zeros = jax.tree.map(jnp.zeros_like, betas)
    one_type = lambda name: jax.vmap(lambda g: pull_back(zeros | {name: g})[0][name])(stacked[name])
    return {name: one_type(name) for name in stacked}

  return cell_gradients


def _cells_betas(supernet, params, batch_stats, batch, betas, key):
  """The shapes of the β that each cell sees, in the tree of the collection 'offsets'."""
  seen = lambda images, betas: supernet.apply(
    {'params': params, 'batch_stats': batch_stats}, images, betas, mutable=['intermediates'], rngs={'draw': key}
  )[1]['intermediates']
  return jax.eval_shape(seen, batch[0], betas)

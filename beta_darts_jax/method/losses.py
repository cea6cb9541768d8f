"""The loss of a supernet as a function of its weights and β; of every cell's own share in its gradient."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import lax

DRAW_SALT = 0x6472  # folded into the keys of operations that draw, to set them apart from the keys of batches


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
  """Mean over the batch of −log softmax(logits)[label], in nats; logits [B, K], labels int [B].

  With `smoothing` ε the target gives 1 − ε to the label and spreads ε evenly over all K classes.
  """
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  if smoothing:
    losses = (1 - smoothing) * losses - smoothing * jnp.mean(jax.nn.log_softmax(logits), axis=-1)
  return jnp.mean(losses)


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Share of the batch, 0 to 1, whose largest logit is the label; logits [B, K], labels int [B]."""
  return jnp.mean(jnp.argmax(logits, axis=-1) == labels, dtype=logits.dtype)


def correct(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Whether the label has the largest logit, and one of the five largest: bool [B] each; logits [B, K], labels [B]."""
  best = lax.top_k(logits, min(5, logits.shape[-1]))[1] == labels[:, None]
  return best[:, 0], jnp.any(best, axis=-1)


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
  function α → β. Differentiable in α.
  """
  loss = make_loss(supernet)

  def of_offsets(params, betas, offsets, rest):
    batch_stats, batch, key = rest
    return loss(params, betas, batch_stats, batch, key, offsets=offsets)[0]

  @jax.custom_vjp
  def gradients(betas, params, rest):
    """In the tree of the collection 'offsets': a gradient of β for each cell."""
    seen = _cells_betas(supernet, params, betas, rest)
    offsets = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), seen)
    return jax.grad(of_offsets, argnums=2)(params, betas, offsets, rest)

  def backward(residuals, cotangents):
    """∂⟨∇_offsets L, c⟩/∂β is how ∇_β L changes along c: forward over reverse, the fast way (see hypergradients)."""
    betas, params, rest = residuals
    both = lambda offsets: jax.grad(of_offsets, argnums=(0, 1))(params, betas, offsets, rest)
    zeros = jax.tree.map(jnp.zeros_like, cotangents)
    return jax.jvp(both, (zeros,), (cotangents,))[1][1], None, None

  gradients.defvjp(lambda *arguments: (gradients(*arguments), arguments), backward)

  def cell_gradients(alphas, relax, params, batch_stats, batch, key):
    betas, pull_back = jax.vjp(relax, alphas)
    found = {name: [] for name in alphas}
    of_cells = gradients(betas, params, (batch_stats, batch, key))
    for path, gradient in jax.tree_util.tree_leaves_with_path(of_cells):
      found[path[-1].key].append(gradient.reshape(-1, *gradient.shape[-2:]))
    zeros = jax.tree.map(jnp.zeros_like, betas)
    one_type = lambda name: jax.vmap(lambda g: pull_back(zeros | {name: g})[0][name])(jnp.concatenate(found[name]))
    return {name: one_type(name) for name, parts in found.items() if parts}

  return cell_gradients


def _cells_betas(supernet, params, betas, rest):
  """The shapes of the β that each cell sees, in the tree of the collection 'offsets'."""
  batch_stats, (images, _), key = rest
  variables = {'params': params, 'batch_stats': batch_stats}
  seen = lambda: supernet.apply(variables, images, betas, mutable=['intermediates'], rngs={'draw': key})
  return jax.eval_shape(seen)[1]['intermediates']

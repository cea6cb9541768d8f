"""The two optimizers of a bilevel step, and the scalars of a step."""

import jax
import jax.numpy as jnp
import optax
from flax import struct


class Hyperparameters(struct.PyTreeNode):
  """Scalars of one step: arguments, not constants, so that one program serves every value of them.

  The defaults are β-DARTS' on NAS-Bench-201. Decays are coupled: added to the
  gradient before the momentum or Adam, as in PyTorch.

  Attributes:
    learning_rate, momentum, weight_decay, clip_norm: of the weights' SGD.
    alpha_learning_rate, alpha_b1, alpha_b2, alpha_weight_decay: of α's Adam; at rate 0 α and its moments stay.
    beta_decay_weight, l2_weight, alignment_weight: λ of the regularizers that name them.
    flood_level: b of regularizers.flooded, in nats.
    perturbation: ε of the perturbed relaxations.
    temperature: τ of the Gumbel-softmax.
    auxiliary_skip: weight of DARTS-'s auxiliary skip connections.
    epoch: of the step, from 0, for regularizers that ask.
  """

  learning_rate: float | jax.Array = 0.025
  momentum: float | jax.Array = 0.9
  weight_decay: float | jax.Array = 3e-4
  clip_norm: float | jax.Array = 5.0
  alpha_learning_rate: float | jax.Array = 3e-4
  alpha_b1: float | jax.Array = 0.5
  alpha_b2: float | jax.Array = 0.999
  alpha_weight_decay: float | jax.Array = 1e-3
  beta_decay_weight: float | jax.Array = 0.0
  l2_weight: float | jax.Array = 0.0
  alignment_weight: float | jax.Array = 0.0
  flood_level: float | jax.Array = 0.0
  perturbation: float | jax.Array = 0.0
  temperature: float | jax.Array = 1.0
  auxiliary_skip: float | jax.Array = 1.0
  epoch: float | jax.Array = 0.0


def clip_by_global_norm(max_norm) -> optax.GradientTransformation:
  """Scales gradients by min(1, max_norm/(norm + 1e-6)): PyTorch's clip_grad_norm_, with its 1e-6."""

  def update(updates, state, params=None):
    del params
    scale = jnp.minimum(1.0, max_norm / (optax.tree.norm(updates) + 1e-6))
    return jax.tree.map(lambda g: g * scale.astype(g.dtype), updates), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def weight_optimizer(hyper: Hyperparameters) -> optax.GradientTransformation:
  """SGD of the network weights: clip, coupled decay, momentum without Nesterov."""
  return optax.chain(
    clip_by_global_norm(hyper.clip_norm),
    optax.add_decayed_weights(hyper.weight_decay),
    optax.sgd(hyper.learning_rate, momentum=hyper.momentum),
  )


def sgd_step(hyper: Hyperparameters, optimizer_state):
  """A function (weights, gradient) → weights one step on, by `weight_optimizer` in this state, but for its clipping."""
  unclipped = weight_optimizer(hyper.replace(clip_norm=jnp.inf))
  updates = lambda params, gradient: unclipped.update(gradient, optimizer_state, params)[0]
  return lambda params, gradient: optax.apply_updates(params, updates(params, gradient))


def alpha_optimizer(hyper: Hyperparameters) -> optax.GradientTransformation:
  """Adam of the architecture logits with coupled L2 decay."""
  return optax.chain(
    optax.add_decayed_weights(hyper.alpha_weight_decay),
    optax.adam(hyper.alpha_learning_rate, b1=hyper.alpha_b1, b2=hyper.alpha_b2),
  )


def adam_step(hyper: Hyperparameters, gradient, optimizer_state, alphas, squared=None):
  """(updates, next state) of `alpha_optimizer`; its second moment may see another gradient, `squared`."""
  optimizer = alpha_optimizer(hyper)
  updates, following = optimizer.update(gradient, optimizer_state, alphas)
  if squared is None:
    return updates, following
  usual, other = (optax.tree.get(s, 'nu') for s in (following, optimizer.update(squared, optimizer_state, alphas)[1]))
  unbiased = 1 - hyper.alpha_b2 ** optax.tree.get(following, 'count')
  root = lambda nu: jnp.sqrt(nu / unbiased) + 1e-8  # Adam's ε
  updates = jax.tree.map(lambda update, nu, instead: update * root(nu) / root(instead), updates, usual, other)
  return updates, optax.tree.set(following, nu=other)

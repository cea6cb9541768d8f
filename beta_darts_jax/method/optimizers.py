"""The scalars of one step, and the optimizers of the two levels.

An optimizer is a function Hyperparameters → optax.GradientTransformation. So rates and decays are arguments of the
compiled step. The initial state of an optimizer must be the same for all hyperparameters.
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax
from flax import struct

from beta_darts_jax.errors import InputError
from beta_darts_jax.method.oles import stop_operations

# A config file may add the scalars of its own parts: {name: default}. The scalar NAME gets the keys search.NAME and
# population.NAME. The parts read it as `hyper.scalars[NAME]`.
SCALARS: dict[str, float] = {}
# The names in result.json that no scalar may have: those of a member, and those of a setting besides.
MEMBER_KEYS = (
  'member', 'seed', 'genotype', 'epoch', 'stopped_early', 'derivation', 'train_accuracy', 'valid_accuracy', 'benchmark',
  'kendall_tau', 'cost',
)  # fmt: skip
SETTING_KEYS = ('genotypes', 'diverged')
_NO_WEIGHTS = ('regularizer_weights', 'hypergradient', 'scalars')  # fields of Hyperparameters that hold several scalars


class Hyperparameters(struct.PyTreeNode):
  """Scalars of one step. The compiled step takes them as arguments, so one compilation serves all values.

  The defaults are those of β-DARTS on NAS-Bench-201, but every λ is 0. Decays are coupled: they are added to the
  gradient before momentum or Adam, as in PyTorch.

  Attributes:
    learning_rate, momentum, weight_decay, clip_norm: scalars of the SGD of the network weights.
    alpha_learning_rate, alpha_b1, alpha_b2, alpha_weight_decay: scalars of the Adam of α. At rate 0, α and its moments
      stay.
    beta_decay_weight, l2_weight, alignment_weight, kl_weight, zero_one_weight: λ of the built-in regularizers.
    flood_level: level b of `regularizers.flooded`, in nats.
    perturbation: ε of the perturbed relaxations.
    temperature: τ of the Gumbel-softmax.
    auxiliary_skip: weight of the auxiliary skip connections of DARTS-.
    epoch: epoch of the step, from 0.
    regularizer_weights: λ of other regularizers, by the name of the weight.
    hypergradient: arguments of the hypergradient by name, such as {'distance': 0.01}; else it uses its own defaults.
    scalars: scalars of user-defined parts, by their names in SCALARS.
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
  kl_weight: float | jax.Array = 0.0
  zero_one_weight: float | jax.Array = 0.0
  flood_level: float | jax.Array = 0.0
  perturbation: float | jax.Array = 0.0
  temperature: float | jax.Array = 1.0
  auxiliary_skip: float | jax.Array = 1.0
  epoch: float | jax.Array = 0.0
  regularizer_weights: Mapping[str, float | jax.Array] = dataclasses.field(default_factory=dict)
  hypergradient: Mapping[str, float | jax.Array] = dataclasses.field(default_factory=dict)
  scalars: Mapping[str, float | jax.Array] = dataclasses.field(default_factory=SCALARS.copy)

  @classmethod
  def has_weight(cls, name: str) -> bool:
    """Returns whether λ with this name is a field. Any other λ is an entry of `regularizer_weights`."""
    return name in cls.__dataclass_fields__ and name not in _NO_WEIGHTS

  def weight_of(self, name: str) -> float | jax.Array:
    """λ of the regularizer whose weight has this name: a field, or an entry of `regularizer_weights`.

    Raises:
      InputError: there is no such weight.
    """
    if name in self.regularizer_weights:
      return self.regularizer_weights[name]
    if not self.has_weight(name):
      raise InputError(f'no weight {name!r}: give it as Hyperparameters(regularizer_weights={{{name!r}: λ}})')
    return getattr(self, name)


Optimizer = Callable[[Hyperparameters], optax.GradientTransformation]


def clip_by_global_norm(max_norm) -> optax.GradientTransformation:
  """Scales gradients by min(1, max_norm/(norm + 1e-6)), as PyTorch's clip_grad_norm_ does, with its 1e-6."""

  def update(updates, state, params=None):
    del params
    factor = jnp.minimum(1.0, max_norm / (optax.tree.norm(updates) + 1e-6))
    return jax.tree.map(lambda g: g * factor.astype(g.dtype), updates), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def weight_sgd(hyper: Hyperparameters) -> optax.GradientTransformation:
  """SGD of the network weights: clipping, coupled decay, momentum without Nesterov."""
  return optax.chain(
    clip_by_global_norm(hyper.clip_norm),
    optax.add_decayed_weights(hyper.weight_decay),
    optax.sgd(hyper.learning_rate, momentum=hyper.momentum),
  )


def weight_sgd_nesterov(hyper: Hyperparameters) -> optax.GradientTransformation:
  """`weight_sgd` with Nesterov's form of momentum, as the official GDAS has it."""
  return optax.chain(
    clip_by_global_norm(hyper.clip_norm),
    optax.add_decayed_weights(hyper.weight_decay),
    optax.sgd(hyper.learning_rate, momentum=hyper.momentum, nesterov=True),
  )


def weight_sgd_oles(hyper: Hyperparameters) -> optax.GradientTransformation:
  """`weight_sgd` that stops the weights of each operation early (OLES)."""
  return stop_operations(weight_sgd(hyper))


def alpha_adam(hyper: Hyperparameters) -> optax.GradientTransformation:
  """Adam of the architecture logits with coupled L2 decay."""
  return optax.chain(
    optax.add_decayed_weights(hyper.alpha_weight_decay),
    optax.adam(hyper.alpha_learning_rate, b1=hyper.alpha_b1, b2=hyper.alpha_b2),
  )


def keep_unmoved() -> optax.GradientTransformation:
  """Shifts the updates of each row of α so that softmax(α) of the logits that do not move stays the same.

  All moved logits of a row get the same shift, which keeps the sum of their e^α. ProxylessNAS rescales its two drawn
  operations in this way (Cai et al., ICLR 2019, section 3.2.1). If all logits of a row move, softmax(α) is that without
  the shift.
  """

  def shift(update, alpha):
    is_moved = update != 0
    before, after = (jax.nn.logsumexp(a, axis=-1, where=is_moved, keepdims=True) for a in (alpha, alpha + update))
    return jnp.where(is_moved, update + (before - after), 0)

  def update(updates, state, params):
    return jax.tree.map(shift, updates, params), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def alpha_adam_two_paths(hyper: Hyperparameters) -> optax.GradientTransformation:
  """`alpha_adam` with `keep_unmoved`; with b1 = 0 and no decay it moves the drawn operations alone."""
  return optax.chain(alpha_adam(hyper), keep_unmoved())


# The name says which level's scalars an optimizer reads. A config file may register its own:
# OPTIMIZERS['name'] = function.
OPTIMIZERS: dict[str, Optimizer] = {
  'weight_sgd': weight_sgd,
  'weight_sgd_nesterov': weight_sgd_nesterov,
  'weight_sgd_oles': weight_sgd_oles,
  'alpha_adam': alpha_adam,
  'alpha_adam_two_paths': alpha_adam_two_paths,
}


def unclipped_step(optimizer: Optimizer, hyper: Hyperparameters, optimizer_state) -> Callable:
  """Returns the function (weights, gradient) → weights after one step of `optimizer` without clipping."""
  unclipped = optimizer(hyper.replace(clip_norm=jnp.inf))

  def step(params, gradient):
    updates, _ = unclipped.update(gradient, optimizer_state, params)
    return optax.apply_updates(params, updates)

  return step

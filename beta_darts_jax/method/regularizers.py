"""Regularizers of α. A regularizer pulls α by a force F(α), scaled by its weight λ, which follows a schedule.

Legend: E edges, O candidate operations of an edge.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from beta_darts_jax.errors import InputError

# ---- scalar functions of α ----


def beta_decay(alphas: dict[str, jax.Array]) -> jax.Array:
  """Beta-Decay, L_β(α): the mean over edges of logsumexp over operations, summed over cell types.

  Its gradient is softmax(α)/E: every logit decays in proportion to its own β
  (Ye et al., β-DARTS, CVPR 2022). At α = 0 a cell type contributes log(O). Adding c
  to all logits of a cell type adds c.

  Args:
    alphas: tree of logits [E, O], one leaf per cell type.

  Returns:
    A scalar of α's dtype.

  Example:
    >>> alphas = {'cell': jnp.zeros((6, 5))}
    >>> print(f'{beta_decay(alphas):.3f}')  # log 5
    1.609
    >>> print(f'{jax.grad(beta_decay)(alphas)["cell"][0, 0]:.4f}')  # softmax(α)/E, here 1/5/6
    0.0333
  """
  return optax.tree.sum(jax.tree.map(lambda alpha: jnp.mean(jax.nn.logsumexp(alpha, axis=-1)), alphas))


def l2(alphas) -> jax.Array:
  """½·‖α‖², whose gradient is α itself."""
  return optax.tree.norm(alphas, squared=True) / 2


def alignment(gradients) -> jax.Array:
  """Layer alignment of Λ-DARTS: the mean cosine of the gradients of two cells in α, summed over cell types.

  Movahedi et al., Λ-DARTS, ICLR 2023.

  Args:
    gradients: tree of [cells, E, O], as from `RegularizerContext.cell_gradients`.

  Returns:
    A scalar, −1 … 1 per cell type. A cell type with fewer than two cells contributes 0.
  """
  total = jnp.zeros((), jax.tree.leaves(gradients)[0].dtype)
  for gradient in jax.tree.leaves(gradients):
    rows = gradient.reshape(len(gradient), -1)
    squares = jnp.sum(jnp.square(rows), axis=-1, keepdims=True)
    rows /= jnp.sqrt(jnp.where(squares > 0, squares, 1.0))  # the cosine with a zero gradient is 0
    pairs = list(itertools.combinations(range(len(rows)), 2))
    if pairs:
      total += sum(jnp.vdot(rows[i], rows[j]) for i, j in pairs) / len(pairs)
  return total


# ---- regularizers ----


@dataclasses.dataclass(frozen=True)
class RegularizerContext:
  """What a regularizer may use in addition to α.

  Attributes:
    epoch: of the step, a scalar.
    gradient: gradient of the validation loss in α, tree of [E, O] like α.
    cell_gradients: function α → {cell type: [cells, E, O]}. Each cell gets its own copy of α; the result has the
      first-order gradient of each copy, at the mean of β. It is differentiable, and computed only when it is called.
  """

  epoch: Any
  gradient: Any
  cell_gradients: Callable


MODES = ('coupled', 'decoupled')


@dataclasses.dataclass(frozen=True)
class Regularizer:
  """A force F on α, its weight λ, and where the force acts.

  Attributes:
    force: F, a function (α, RegularizerContext) → tree like α.
    weight: name of its λ: a field of Hyperparameters or a key of `Hyperparameters.regularizer_weights`. In a config
      the weight named 'x_weight' has the keys search.x_weight, search.x_schedule and population.x_weight.
    mode: 'coupled' adds λ·F(α) to the gradient that α's optimizer gets. 'decoupled' moves α by −η·λ·F(α) after the
      optimizer's update, with η = alpha_learning_rate.

  Raises:
    InputError: `force` is no function, or the mode is unknown.

  Example: α shrinks by the sign of each logit, independently of Adam.
    >>> lasso = Regularizer(lambda alphas, context: jax.tree.map(jnp.sign, alphas), 'lasso_weight', mode='decoupled')
    >>> lasso.force({'cell': jnp.array([[0.5, -2.0]])}, None)['cell'].tolist()
    [[1.0, -1.0]]
  """

  force: Callable
  weight: str
  mode: str = 'coupled'

  def __post_init__(self):
    if not callable(self.force):
      raise InputError(f'force={self.force!r}: expected a function (alphas, context) → tree like α')
    if self.mode not in MODES:
      raise InputError(f'mode={self.mode!r}: expected {" or ".join(MODES)}')


def from_penalty(penalty: Callable, weight: str, mode: str = 'coupled') -> Regularizer:
  """Returns the regularizer with F = ∇penalty, where `penalty` is a scalar function of α, and with the λ `weight`."""
  return Regularizer(lambda alphas, context: jax.grad(penalty)(alphas), weight, mode)


def _negative_alignment_gradient(alphas, context: RegularizerContext):
  return jax.grad(lambda alphas: -alignment(context.cell_gradients(alphas)))(alphas)


# A config file may register its own: REGULARIZERS['name'] = Regularizer(…).
REGULARIZERS: dict[str, Regularizer] = {
  'beta_decay': from_penalty(beta_decay, 'beta_decay_weight'),
  'decoupled_beta_decay': from_penalty(beta_decay, 'beta_decay_weight', mode='decoupled'),
  'l2': from_penalty(l2, 'l2_weight'),
  'weight_decay': from_penalty(l2, 'l2_weight', mode='decoupled'),
  'lambda_darts': Regularizer(_negative_alignment_gradient, 'alignment_weight'),
}


def sum_forces(regularizers: Iterable[Regularizer], alphas, context: RegularizerContext, hyper) -> dict[str, Any]:
  """Returns {mode: Σ λ·F(α)}, trees like α, for the modes that occur."""
  sums: dict[str, Any] = {}
  for regularizer in regularizers:
    scaled = optax.tree.scale(hyper.weight_of(regularizer.weight), regularizer.force(alphas, context))
    before = sums.get(regularizer.mode)
    sums[regularizer.mode] = scaled if before is None else optax.tree.add(before, scaled)
  return sums


def flooded(loss: jax.Array, level) -> jax.Array:
  """Flooding, |L − b| + b: below the level b (nats) the gradient changes its sign (Ishida et al., ICML 2020)."""
  return jnp.abs(loss - level) + level


# ---- schedules of λ: (maximum, epoch, epochs) → λ of the epoch ----


def linear_ramp(maximum: float, epoch: int, epochs: int) -> float:
  """λ(epoch) = maximum·epoch/epochs, constant within an epoch, 0 in the first one (the schedule of β-DARTS).

  Example:
    >>> [linear_ramp(50.0, epoch, 100) for epoch in (0, 1, 99)]
    [0.0, 0.5, 49.5]
  """
  return maximum * epoch / epochs


def constant(maximum: float, epoch: int, epochs: int) -> float:
  """λ(epoch) = maximum."""
  del epoch, epochs
  return maximum


# A config file may register its own: SCHEDULES['name'] = function.
SCHEDULES: dict[str, Callable] = {'linear': linear_ramp, 'constant': constant}

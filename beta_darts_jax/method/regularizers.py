"""The family α⁺ = α − η·λ·F(α): what decays the architecture logits α, and how its weight λ grows.

Legend: E edges, O candidate operations of an edge.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import optax

# ---- scalar functions of α ----


def beta_decay(alphas: dict[str, jax.Array]) -> jax.Array:
  """Beta-Decay, L_β(α): for each cell type the mean over edges of logsumexp over operations; their sum.

  Its gradient is softmax(α)/E: every logit decays in proportion to its own β
  (Ye et al., β-DARTS, CVPR 2022). At α = 0 a cell type counts log(O); a shift
  of all its logits by c adds c.

  Args:
    alphas: tree of logits [E, O], one leaf a cell type.

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
  """Λ-DARTS' layer alignment: the mean cosine of two cells' gradients of α, −1 to 1; summed over cell types.

  Movahedi et al., Λ-DARTS, ICLR 2023.

  Args:
    gradients: tree of [cells, E, O], as of `cell_gradients` below; a type of fewer than two cells counts 0.
  """
  total = jnp.zeros((), jax.tree.leaves(gradients)[0].dtype)
  for gradient in jax.tree.leaves(gradients):
    rows = gradient.reshape(len(gradient), -1)
    squares = jnp.sum(jnp.square(rows), axis=-1, keepdims=True)
    rows /= jnp.sqrt(jnp.where(squares > 0, squares, 1.0))  # with a zero gradient the cosine is 0
    pairs = list(itertools.combinations(range(len(rows)), 2))
    if pairs:
      total += sum(jnp.vdot(rows[i], rows[j]) for i, j in pairs) / len(pairs)
  return total


# ---- regularizers ----


@dataclasses.dataclass(frozen=True)
class RegularizerContext:
  """What a regularizer may look at besides α.

  Attributes:
    epoch: of the step, a scalar.
    gradient: of the validation loss, tree of [E, O] like α.
    cell_gradients: α → the first-order gradient at α and the mean of β (the relaxation may draw) for each cell by
      itself, {cell type: [cells, E, O]}; differentiable, computed when called.
  """

  epoch: Any
  gradient: Any
  cell_gradients: Callable


@dataclasses.dataclass(frozen=True)
class Regularizer:
  """One member of the family.

  Attributes:
    decay: F: (α, RegularizerContext) → tree like α.
    weight: the field of Hyperparameters that is its λ, or a function Hyperparameters → λ.
    mode: 'coupled': λ·F(α) is added to the gradient that Adam gets, and changes its size there; 'decoupled': α
      moves by −η·λ·F(α) beside Adam, η = alpha_learning_rate (decoupled); 'second_moment': the sum with the gradient is
      seen by Adam's second moment alone, a control.

  Example, of one's own: α shrinks beside Adam by l2_weight·sign(α).
    >>> lasso = Regularizer(lambda alphas, seen: jax.tree.map(jnp.sign, alphas), 'l2_weight', mode='decoupled')
    >>> lasso.decay({'cell': jnp.array([[0.5, -2.0]])}, None)['cell'].tolist()
    [[1.0, -1.0]]
  """

  decay: Callable
  weight: str | Callable = 'beta_decay_weight'
  mode: str = 'coupled'


def from_penalty(penalty: Callable, weight: str | Callable = 'beta_decay_weight', mode: str = 'coupled') -> Regularizer:
  """The regularizer with F = ∇penalty, a scalar function of α."""
  return Regularizer(lambda alphas, seen: jax.grad(penalty)(alphas), weight, mode)


REGULARIZERS = {
  'beta_decay': from_penalty(beta_decay),
  'decoupled_beta_decay': from_penalty(beta_decay, mode='decoupled'),
  'second_moment_beta_decay': from_penalty(beta_decay, mode='second_moment'),
  'l2': from_penalty(l2, 'l2_weight'),
  'weight_decay': from_penalty(l2, 'l2_weight', mode='decoupled'),
  'lambda_darts': Regularizer(
    lambda alphas, seen: jax.grad(lambda alphas: -alignment(seen.cell_gradients(alphas)))(alphas), 'alignment_weight'
  ),
}


def total(regularizers: Iterable[Regularizer], alphas, seen: RegularizerContext, hyper) -> dict:
  """{where it goes into: Σ λ·F(α), a tree like α}; only what there is."""
  sums: dict[str, Any] = {}
  for regularizer in regularizers:
    weight = regularizer.weight(hyper) if callable(regularizer.weight) else getattr(hyper, regularizer.weight)
    scaled = optax.tree.scale(weight, regularizer.decay(alphas, seen))
    before = sums.get(regularizer.mode)
    sums[regularizer.mode] = scaled if before is None else optax.tree.add(before, scaled)
  return sums


def flooded(loss: jax.Array, level) -> jax.Array:
  """Flooding, |L − b| + b: below the level b (nats) the gradient turns round (Ishida et al., ICML 2020; β-DARTS++)."""
  return jnp.abs(loss - level) + level


# ---- schedules of λ: (maximum, epoch, epochs) → λ of the epoch ----


def linear_ramp(maximum: float, epoch: int, epochs: int) -> float:
  """λ(epoch) = maximum·epoch/epochs, constant within an epoch: 0 in the first (β-DARTS' schedule).

  Example:
    >>> [linear_ramp(50.0, epoch, 100) for epoch in (0, 1, 99)]
    [0.0, 0.5, 49.5]
  """
  return maximum * epoch / epochs


def constant(maximum: float, epoch: int, epochs: int) -> float:
  """λ(epoch) = maximum."""
  del epoch, epochs
  return maximum


SCHEDULES = {'linear': linear_ramp, 'constant': constant}

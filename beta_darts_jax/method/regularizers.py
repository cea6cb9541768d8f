"""Regularizers of α and of the network weights w: a force F, scaled by its weight λ, which follows a schedule.

Legend: E edges, O candidate operations of an edge.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.special import digamma, gammaln

from beta_darts_jax.errors import InputError
from beta_darts_jax.method.samplings import concentration
from beta_darts_jax.spaces.space import softmax_betas

# ---- scalar functions of α ----


def beta_decay(alphas: dict[str, jax.Array]) -> jax.Array:
  """Beta-Decay, L_β(α): the mean over edges of logsumexp over operations, summed over cell types.

  Its gradient is softmax(α)/E: every logit decays in proportion to its own β (Ye et al., β-DARTS, CVPR 2022). At α = 0
  a cell type contributes log(O). Adding c to all logits of a cell type adds c.

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
  """Layer alignment Λ of Λ-DARTS: the mean cosine of the gradients of two cells in β, summed over cell types.

  Movahedi et al., Λ-DARTS, ICLR 2023.

  Args:
    gradients: tree of [cells, E, O], as from `WeightContext.cell_gradients`.

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


def zero_one(alphas) -> jax.Array:
  """Zero-one loss of FairDARTS, −mean of (sigmoid(α) − ½)² over all logits: it drives each β to 0 or 1.

  Chu et al., Fair DARTS, ECCV 2020, whose weight is 10.
  """
  return -jnp.mean(jnp.concatenate([jnp.square(jax.nn.sigmoid(a) - 0.5).ravel() for a in jax.tree.leaves(alphas)]))


def dirichlet_kl(alphas) -> jax.Array:
  """ΣKL(Dirichlet(c) ‖ Dirichlet(1, …, 1)) over all edges, c = elu(α) + 1: the anchor of DrNAS, in nats."""

  def divergence(alpha):
    c = concentration(alpha)
    total = jnp.sum(c, axis=-1, keepdims=True)
    entropy = gammaln(total[..., 0]) - gammaln(c.shape[-1]) - jnp.sum(gammaln(c), axis=-1)
    return jnp.sum(entropy + jnp.sum((c - 1) * (digamma(c) - digamma(total)), axis=-1))

  return sum(divergence(alpha) for alpha in jax.tree.leaves(alphas))


# ---- regularizers ----


@dataclasses.dataclass(frozen=True)
class RegularizerContext:
  """What a regularizer of α may use in addition to α.

  Attributes:
    epoch: epoch of the step, a scalar.
    gradient: gradient of the validation loss in α, tree of [E, O] like α.
  """

  epoch: Any
  gradient: Any


@dataclasses.dataclass(frozen=True)
class WeightContext:
  """What a regularizer of the weights may use in addition to the weights w.

  Attributes:
    epoch: epoch of the step, a scalar.
    batch: the training batch: images [B, H, W, C], labels [B].
    betas: β of the weight step, {cell type: [E, O]}.
    gradient: gradient of the training loss in w, a tree like w.
    loss: function (w, β) → training loss in nats.
    cell_gradients: function w → {cell type: [cells, E, O]}: each cell gets its own copy of β, and the result has the
      gradient of the training loss in each copy. It is differentiable, and computed only when it is called.
    gradient_at: function {cell type: [cells, E, O]} → gradient of the training loss in w, where each cell adds these
      offsets to its β.
  """

  epoch: Any
  batch: Any
  betas: Any
  gradient: Any
  loss: Callable
  cell_gradients: Callable
  gradient_at: Callable


MODES = ('coupled', 'decoupled', 'weights')


@dataclasses.dataclass(frozen=True)
class Regularizer:
  """A force F, its weight λ, and where the force acts.

  Attributes:
    force: F, a function (α, RegularizerContext) → tree like α; with mode='weights' a function (w, WeightContext) →
      tree like w.
    weight: name of its λ: a field of Hyperparameters or a key of `Hyperparameters.regularizer_weights`. In a config
      the weight named 'x_weight' has the keys search.x_weight, search.x_schedule and population.x_weight.
    mode: 'coupled' adds λ·F(α) to the gradient that α's optimizer gets. 'decoupled' moves α by −η·λ·F(α) after the
      optimizer's update, with η = alpha_learning_rate. 'weights' adds λ·F(w) to the gradient that the weights'
      optimizer gets, before clipping.

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
      raise InputError(f'force={self.force!r}: expected a function (alphas or weights, context) → tree like it')
    if self.mode not in MODES:
      raise InputError(f'mode={self.mode!r}: expected one of {", ".join(MODES)}')


def from_penalty(penalty: Callable, weight: str, mode: str = 'coupled') -> Regularizer:
  """Returns the regularizer with F = ∇penalty and with the λ `weight`.

  `penalty` is a scalar function of α, or of w with mode='weights'.
  """
  return Regularizer(lambda tree, context: jax.grad(penalty)(tree), weight, mode)


def expected_cost(costs: Mapping[str, np.ndarray], betas: Mapping[str, Any]):
  """Σ β·c over all cell types, edges and operations: the expected cost if each edge draws its operation from β.

  Both arguments are {cell type: [E, O]}. Xie et al., SNAS, ICLR 2019; Cai et al., ProxylessNAS, ICLR 2019; Wu et al.,
  FBNet, CVPR 2019.
  """
  return sum((betas[name] * of_cell).sum() for name, of_cell in costs.items())


def largest_cost(costs: Mapping[str, np.ndarray]) -> float:
  """Returns the cost of the cells with the most expensive operation on each edge, from {cell type: [E, O]}."""
  return float(sum(of_cell.max(axis=-1).sum() for of_cell in costs.values()))


def cost(costs: Mapping[str, np.ndarray], target: float = 0.0, betas: Callable = softmax_betas) -> Regularizer:
  """Returns the regularizer of the expected cost, with the weight `cost_weight`.

  Without a target the penalty is E/largest, where E is `expected_cost` and `largest` is `largest_cost`, so the weight
  has no unit. With a target the penalty is max(0, E/target − 1): the upper half of the absolute reward of TuNAS (Bender
  et al., CVPR 2020). So there is no force on α while E is below the target.

  Args:
    costs: cost of each operation of each edge, {cell type: [E, O]}, as from `operation_costs`.
    target: in the unit of the costs; 0 is no target.
    betas: α → the expected β, {cell type: [E, O]}.

  Raises:
    InputError: all costs are 0, or the target is not below the largest cost.

  Example: the second operation costs 3, and β is ½.
    >>> force = cost({'cell': np.array([[0.0, 3.0]])}).force
    >>> force({'cell': jnp.zeros((1, 2))}, None)['cell'].tolist()  # β·(c − E)/largest
    [[-0.25, 0.25]]
  """
  largest = largest_cost(costs)
  if not largest:
    raise InputError('every operation costs 0: expected costs above 0')
  if not 0 <= target < largest:
    raise InputError(f'target={target:g}: expected 0, or less than {largest:g}, the cost of the most expensive cell')

  def penalty(alphas):
    expected = expected_cost(costs, betas(alphas))
    return jax.nn.relu(expected / target - 1) if target else expected / largest

  return from_penalty(penalty, 'cost_weight')


def _without_costs(alphas, context):
  raise InputError("the regularizer 'cost' has no costs: expected bd.cost(bd.operation_costs(supernet, image_size))")


def lambda_darts(params, context: WeightContext):
  """−∂Λ/∂w, exactly: the weights maximize the alignment of the cells (Λ-DARTS)."""
  return jax.grad(lambda params: -alignment(_aligned(context.cell_gradients(params))))(params)


def lambda_darts_finite_difference(params, context: WeightContext, distance: float = 1e-4):
  """Approximates `lambda_darts` as the official program does, from two gradients of the training loss in w.

  (∇_w L(w, β − εv) − ∇_w L(w, β + εv))/(2ε), where v is the derivative of Λ in the cells' gradients.

  Args:
    params: w.
    context: the WeightContext of the step.
    distance: ε·‖v‖ over all cells; officially 1e-4 on NAS-Bench-201 and 1e-3 in the DARTS space.
  """
  gradients = context.cell_gradients(params)
  directions = jax.grad(lambda gradients: alignment(_aligned(gradients)))(gradients)
  epsilon = distance / jnp.maximum(optax.tree.norm(directions), 1e-12)  # the norm is 0 where all gradients are 0

  def gradient_at(sign):
    return context.gradient_at(optax.tree.scale(sign * epsilon, directions))

  return jax.tree.map(lambda minus, plus: (minus - plus) / (2 * epsilon), gradient_at(-1.0), gradient_at(1.0))


def _aligned(gradients):
  """The gradients of the cells that Λ-DARTS compares: no reduction cells."""
  return {name: gradient for name, gradient in gradients.items() if name != 'reduce'} or gradients


# A config file may register its own: REGULARIZERS['name'] = Regularizer(…).
REGULARIZERS: dict[str, Regularizer] = {
  'beta_decay': from_penalty(beta_decay, 'beta_decay_weight'),
  'decoupled_beta_decay': from_penalty(beta_decay, 'beta_decay_weight', mode='decoupled'),
  'l2': from_penalty(l2, 'l2_weight'),
  'weight_decay': from_penalty(l2, 'l2_weight', mode='decoupled'),
  'dirichlet_kl': from_penalty(dirichlet_kl, 'kl_weight'),
  'zero_one': from_penalty(zero_one, 'zero_one_weight'),
  'cost': Regularizer(_without_costs, 'cost_weight'),  # a search replaces it by cost(…) of its supernet
  'lambda_darts': Regularizer(lambda_darts, 'alignment_weight', mode='weights'),
  'lambda_darts_finite_difference': Regularizer(lambda_darts_finite_difference, 'alignment_weight', mode='weights'),
}


def sum_forces(regularizers: Iterable[Regularizer], tree, context, hyper) -> dict[str, Any]:
  """Returns {mode: Σ λ·F}, trees like `tree` (α, or w for the mode 'weights'), for the modes that occur."""
  sums: dict[str, Any] = {}
  for regularizer in regularizers:
    scaled = optax.tree.scale(hyper.weight_of(regularizer.weight), regularizer.force(tree, context))
    before = sums.get(regularizer.mode)
    sums[regularizer.mode] = scaled if before is None else optax.tree.add(before, scaled)
  return sums


def flooded(loss: jax.Array, level) -> jax.Array:
  """Flooding, |L − b| + b: below the level b (nats) the gradient changes its sign (Ishida et al., ICML 2020)."""
  return jnp.abs(loss - level) + level


# ---- schedules of λ: (maximum, epoch, epochs) → λ of the epoch ----


def linear_ramp(maximum: float, epoch: int, epochs: int) -> float:
  """λ(epoch) = maximum·epoch/epochs, constant within an epoch, 0 in the first one.

  Example:
    >>> [linear_ramp(50.0, epoch, 100) for epoch in (0, 1, 99)]
    [0.0, 0.5, 49.5]
  """
  return maximum * epoch / epochs


def per_step(maximum: float, epoch: int, epochs: int, steps_per_epoch: int = 390) -> float:
  """λ grows by maximum/39,000 a step up to `maximum`, whatever the length of an epoch (the schedule of β-DARTS).

  The official search has 100 epochs of 390 steps. λ is constant within an epoch. A search passes its own
  `steps_per_epoch`.

  Example:
    >>> [per_step(50.0, epoch, 10, steps_per_epoch=39) for epoch in (0, 10, 2000)]
    [0.0, 0.5, 50.0]
  """
  del epochs
  return maximum * min(epoch * steps_per_epoch, 39_000) / 39_000


def linear_to_last(maximum: float, epoch: int, epochs: int) -> float:
  """λ(epoch) = maximum·epoch/(epochs − 1): `maximum` is reached in the last epoch (the schedule of Λ-DARTS).

  Example:
    >>> [linear_to_last(0.125, epoch, 101) for epoch in (0, 50, 100)]
    [0.0, 0.0625, 0.125]
  """
  return maximum * epoch / max(1, epochs - 1)


def constant(maximum: float, epoch: int, epochs: int) -> float:
  """λ(epoch) = maximum."""
  del epoch, epochs
  return maximum


# A config file may register its own: SCHEDULES['name'] = function.
SCHEDULES: dict[str, Callable] = {
  'linear': linear_ramp,
  'per_step': per_step,
  'linear_to_last': linear_to_last,
  'constant': constant,
}

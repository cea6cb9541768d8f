"""∇_α L_valid(w*(α), α) with approximations of w*(α) = argmin_w L_train(w, α).

No Hessian is formed: second derivatives are products with a vector, forward over reverse, at a few times the cost of a
gradient (Pearlmutter, 1994).
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.scipy.sparse.linalg import cg


class Problem(NamedTuple):
  """The two levels at one step, as functions of trees: weights w and architecture α.

  Attributes:
    train_loss: L_train, (w, α) → scalar.
    step_loss: the loss that a step of w descends: L_train, or L_train with flooding.
    valid_loss: L_valid, (w, α) → (scalar, accuracy).
    params: w.
    architecture: α.
    sgd_step: (w, ∇_w step_loss) → w′ after one step of the weights' optimizer.
    learning_rate: ξ of that step.
    weight_decay: weight decay of that optimizer.
    scalars: scalars of user-defined parts, `Hyperparameters.scalars`.
  """

  train_loss: Callable
  step_loss: Callable
  valid_loss: Callable
  params: Any
  architecture: Any
  sgd_step: Callable
  learning_rate: Any
  weight_decay: Any
  scalars: Mapping[str, Any] = MappingProxyType({})


# Each hypergradient is a function: problem → ((validation loss, accuracy), gradient of α). It gets the scalars of
# `Hyperparameters.hypergradient` as further arguments.


def first_order(problem: Problem):
  """Uses the current w in place of w*."""
  return jax.value_and_grad(problem.valid_loss, argnums=1, has_aux=True)(problem.params, problem.architecture)


def second_order(problem: Problem):
  """Uses w′, the weights after one step, in place of w*.

  The gradient is ∇_α L_valid(w′, α) − ξ·∇²_{α,w} L_train(w, α)·∇_w′ L_valid(w′, α).
  This is eq. 7 of DARTS (Liu et al., ICLR 2019), exact, without its approximation eq. 8. Momentum and decay change w′.
  Momentum and decay do not depend on α, so ∂w′/∂α = −ξ·∇²_{w,α} L_train. The step is not clipped.
  """
  value, gradient, grad_w = _at_next_weights(problem)
  return value, _subtract(gradient, problem.learning_rate, _mixed_derivative(problem, problem.step_loss, grad_w))


def finite_difference(problem: Problem, distance: float = 0.01):
  """Approximates `second_order` as DARTS does (eq. 8), from two gradients at w ± ε·v with v = ∇_w′ L_valid.

  Args:
    problem: the two levels.
    distance: ε·‖v‖.
  """
  value, gradient, grad_w = _at_next_weights(problem)
  epsilon = distance / optax.tree.norm(grad_w)

  def gradient_at(sign):
    shifted = jax.tree.map(lambda w, v: w + sign * epsilon * v, problem.params, grad_w)
    return jax.grad(problem.step_loss, argnums=1)(shifted, problem.architecture)

  product = jax.tree.map(lambda plus, minus: (plus - minus) / (2 * epsilon), gradient_at(1.0), gradient_at(-1.0))
  return value, _subtract(gradient, problem.learning_rate, product)


def implicit(problem: Problem, solver: str = 'neumann', terms: int = 10, rate: float = 0.01, damping: float = 0.0):
  """Uses a minimum near w in place of w*: ∇_α L_valid − ∇²_{α,w} L_train·H⁻¹·∇_w L_valid.

  H = ∇²_w L_train + weight decay + damping. The formula is the implicit function theorem (Lorraine et al., AISTATS
  2020, with the Neumann series; Rajeswaran et al., NeurIPS 2019, with conjugate gradients).

  Args:
    problem: the two levels.
    solver: how H⁻¹ is applied, a key of SOLVERS.
    terms: number of products with H.
    rate: step size of the Neumann series, below 2/(largest eigenvalue of H).
    damping: added to H. Conjugate gradients need a positive definite H. The Hessian of a network is not.
  """
  value, (grad_w, gradient) = jax.value_and_grad(problem.valid_loss, argnums=(0, 1), has_aux=True)(
    problem.params, problem.architecture
  )
  decay = problem.weight_decay + damping

  def train_gradient(w):
    return jax.grad(problem.train_loss)(w, problem.architecture)

  def hessian(v):
    product = jax.jvp(train_gradient, (problem.params,), (v,))[1]
    return jax.tree.map(lambda p, x: p + decay * x, product, v)

  solution = SOLVERS[solver](hessian, grad_w, terms, rate)
  return value, _subtract(gradient, 1.0, _mixed_derivative(problem, problem.train_loss, solution))


def _neumann(hessian, v, terms, rate):
  """rate·Σ_{j=0}^{terms} (1 − rate·H)^j v."""

  def add_term(_, carry):
    term, total = carry
    term = jax.tree.map(lambda t, h: t - rate * h, term, hessian(term))
    return term, jax.tree.map(jnp.add, total, term)

  return jax.tree.map(lambda x: rate * x, lax.fori_loop(0, terms, add_term, (v, v))[1])


def _conjugate_gradients(hessian, v, terms, rate):
  del rate
  flat, unravel = ravel_pytree(v)  # cg of a tree cannot be vmapped

  def flat_hessian(x):
    return ravel_pytree(hessian(unravel(x)))[0]

  solution, _ = cg(flat_hessian, flat, maxiter=terms, tol=1e-12)
  return unravel(solution)


SOLVERS = {'neumann': _neumann, 'cg': _conjugate_gradients}

# A config file may register its own: HYPERGRADIENTS['name'] = function.
HYPERGRADIENTS: dict[str, Callable] = {
  'first_order': first_order,
  'second_order': second_order,
  'finite_difference': finite_difference,
  'implicit': implicit,
}
HYPERGRADIENT_SCALARS = {'finite_difference': ('distance',), 'implicit': ('rate', 'damping')}  # what members may vary
ASSUME_SGD = (second_order, finite_difference)  # their formula needs ∂w′/∂gradient = −ξ


def _at_next_weights(problem):
  """((L_valid, accuracy), ∇_α L_valid, ∇_w′ L_valid), all at w′."""
  gradient = jax.grad(problem.step_loss)(problem.params, problem.architecture)
  value, (grad_w, gradient) = jax.value_and_grad(problem.valid_loss, argnums=(0, 1), has_aux=True)(
    problem.sgd_step(problem.params, gradient), problem.architecture
  )
  return value, gradient, grad_w


def _mixed_derivative(problem, loss, v):
  """∇²_{α,w} L·v: the change of ∇_α L as w moves along v."""

  # Both gradients are computed. With α's alone, operations that do not depend on α would be differentiated in forward
  # mode directly, which custom VJPs refuse.
  def both_gradients(w):
    return jax.grad(loss, argnums=(0, 1))(w, problem.architecture)

  return jax.jvp(both_gradients, (problem.params,), (v,))[1][1]


def _subtract(tree, factor, other):
  return jax.tree.map(lambda x, y: x - factor * y, tree, other)

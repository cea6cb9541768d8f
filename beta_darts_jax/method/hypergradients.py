"""∇_α L_valid(w*(α), α), with w*(α) = argmin_w L_train(w, α) approximated in one way or another.

None forms a Hessian: second derivatives come as products with a vector, forward over reverse, at a few times the cost
of a gradient (Pearlmutter, 1994).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.scipy.sparse.linalg import cg


class Problem(NamedTuple):
  """The two levels at one step, as functions of (weights w, architecture α): trees.

  Attributes:
    train_loss: L_train, (w, α) → scalar.
    step_loss: what a step of w descends, likewise: L_train, or L_train flooded.
    valid_loss: (w, α) → (scalar, anything).
    params: w.
    architecture: α.
    descend: (w, ∇_w step_loss) → w′, one step of the weights' optimizer.
    learning_rate: ξ of that step.
    weight_decay: of that optimizer.
  """

  train_loss: Callable
  step_loss: Callable
  valid_loss: Callable
  params: Any
  architecture: Any
  descend: Callable
  learning_rate: Any
  weight_decay: Any


# Each: problem → ((validation loss, anything), gradient of α).


def first_order(problem: Problem):
  """w* is the current w."""
  return jax.value_and_grad(problem.valid_loss, argnums=1, has_aux=True)(problem.params, problem.architecture)


def second_order(problem: Problem):
  """w* is w′, one step on: ∇_α L_valid(w′, α) − ξ·∇²_{α,w} L_train(w, α)·∇_w′ L_valid(w′, α), exact.

  Liu et al., DARTS, ICLR 2019, eq. 7, without its approximation eq. 8. Momentum and decay move w′, and its derivative
  in α is −ξ·∇²_{w,α} L_train, since neither depends on α. The step is not clipped.
  """
  value, gradient, towards = _at_the_next_weights(problem)
  return value, _minus(gradient, problem.learning_rate, _mixed(problem, problem.step_loss, towards))


def finite_difference(problem: Problem, distance: float = 0.01):
  """Second order as DARTS approximates it: the product from two gradients at w ± ε·v, v = ∇_w′ L_valid.

  Args:
    problem: the two levels.
    distance: ε·‖v‖.
  """
  value, gradient, towards = _at_the_next_weights(problem)
  epsilon = distance / optax.tree.norm(towards)
  at = lambda sign: jax.grad(problem.step_loss, argnums=1)(
    jax.tree.map(lambda w, v: w + sign * epsilon * v, problem.params, towards), problem.architecture
  )
  product = jax.tree.map(lambda plus, minus: (plus - minus) / (2 * epsilon), at(1.0), at(-1.0))
  return value, _minus(gradient, problem.learning_rate, product)


def implicit(problem: Problem, solver: str = 'neumann', terms: int = 10, rate: float = 0.01, damping: float = 0.0):
  """w* is a minimum near w: ∇_α L_valid − ∇²_{α,w} L_train·H⁻¹·∇_w L_valid, H = ∇²_w L_train + weight decay + damping.

  By the implicit function theorem (Lorraine et al., AISTATS 2020, with the Neumann series; Rajeswaran et al., NeurIPS
  2019, with conjugate gradients).

  Args:
    problem: the two levels.
    solver: of H⁻¹: a key of SOLVERS.
    terms: products with H.
    rate: of the Neumann series, below 2/(largest eigenvalue of H).
    damping: added to H. Conjugate gradients need a positive H, which a network's Hessian by itself is not.
  """
  value, (towards, gradient) = jax.value_and_grad(problem.valid_loss, argnums=(0, 1), has_aux=True)(
    problem.params, problem.architecture
  )
  decay = problem.weight_decay + damping
  of_weights = lambda w: jax.grad(problem.train_loss)(w, problem.architecture)

  def hessian(v):
    product = jax.jvp(of_weights, (problem.params,), (v,))[1]
    return jax.tree.map(lambda p, x: p + decay * x, product, v)

  solution = SOLVERS[solver](hessian, towards, terms, rate)
  return value, _minus(gradient, 1.0, _mixed(problem, problem.train_loss, solution))


def _neumann(hessian, v, terms, rate):
  """rate·Σ_{j=0}^{terms} (1 − rate·H)^j v."""

  def add(_, carry):
    term, total = carry
    term = jax.tree.map(lambda t, h: t - rate * h, term, hessian(term))
    return term, jax.tree.map(jnp.add, total, term)

  return jax.tree.map(lambda x: rate * x, lax.fori_loop(0, terms, add, (v, v))[1])


def _conjugate_gradients(hessian, v, terms, rate):
  del rate
  flat, tree_of = ravel_pytree(v)  # of a tree, cg cannot be vmapped
  solution, _ = cg(lambda x: ravel_pytree(hessian(tree_of(x)))[0], flat, maxiter=terms, tol=1e-12)
  return tree_of(solution)


SOLVERS = {'neumann': _neumann, 'cg': _conjugate_gradients}

HYPERGRADIENTS = {
  'first_order': first_order,
  'second_order': second_order,
  'finite_difference': finite_difference,
  'implicit': implicit,
}


def _at_the_next_weights(problem):
  """((L_valid, anything), ∇_α L_valid, ∇_w′ L_valid), all at w′."""
  gradient = jax.grad(problem.step_loss)(problem.params, problem.architecture)
  value, (towards, gradient) = jax.value_and_grad(problem.valid_loss, argnums=(0, 1), has_aux=True)(
    problem.descend(problem.params, gradient), problem.architecture
  )
  return value, gradient, towards


def _mixed(problem, loss, v):
  """∇²_{α,w} L·v: how ∇_α L changes as w moves along v."""
  # both gradients: an operation that no α is before would else meet forward mode bare, which custom VJPs refuse
  both = lambda w: jax.grad(loss, argnums=(0, 1))(w, problem.architecture)
  return jax.jvp(both, (problem.params,), (v,))[1][1]


def _minus(tree, factor, other):
  return jax.tree.map(lambda x, y: x - factor * y, tree, other)

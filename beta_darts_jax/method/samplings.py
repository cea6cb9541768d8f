"""How β is drawn from the logits α: functions (α, key, hyper) → β, differentiable in α, with what belongs to them.

Legend: E edges, O candidate operations of an edge; trees have a leaf [E, O] for each cell type.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import digamma

from beta_darts_jax.errors import InputError
from beta_darts_jax.method.optimizers import Hyperparameters
from beta_darts_jax.spaces.space import softmax_betas

TINY = 2.0**-100  # it changes no sum, and an edge weight times it is still a normal float32 and bfloat16


def softmax(alphas, key, hyper: Hyperparameters):
  """DARTS: β = softmax(α). Nothing is drawn."""
  del key, hyper
  return softmax_betas(alphas)


def sigmoid(alphas, key=None, hyper: Hyperparameters | None = None):
  """FairDARTS: β = sigmoid(α), so operations do not compete (Chu et al., ECCV 2020). Rows do not sum to 1."""
  del key, hyper
  return jax.tree.map(jax.nn.sigmoid, alphas)


# ---- Gumbel ----


def relaxed_gumbel(alphas, noise, temperature):
  """softmax((log softmax(α) + G)/τ) for Gumbel variables G, a tree like α."""

  def relax(alpha, noise):
    return jax.nn.softmax((jax.nn.log_softmax(alpha) + noise) / temperature)

  return jax.tree.map(relax, alphas, noise)


def straight_through(alphas, noise, temperature):
  """The one-hot maximum of `relaxed_gumbel`, with the gradient of `relaxed_gumbel`."""

  def harden(soft):
    hard = jax.nn.one_hot(jnp.argmax(soft, axis=-1), soft.shape[-1], dtype=soft.dtype)
    return hard + (soft - lax.stop_gradient(soft))

  return jax.tree.map(harden, relaxed_gumbel(alphas, noise, temperature))


def gumbel(alphas, key, hyper: Hyperparameters):
  """GDAS: β is one-hot, with operation k drawn with probability softmax(α)_k.

  The gradient is that of softmax((log softmax(α) + G)/τ), where G are Gumbel variables and τ = `hyper.temperature`
  (straight-through; Jang et al., ICLR 2017; Dong and Yang, CVPR 2019). With Supernet(single_path=True) only the drawn
  operation is computed.
  """
  return straight_through(alphas, _gumbel_like(alphas, key), hyper.temperature)


def soft_gumbel(alphas, key, hyper: Hyperparameters):
  """SNAS: β = softmax((log softmax(α) + G)/τ) with Gumbel variables G (Xie et al., ICLR 2019)."""
  return relaxed_gumbel(alphas, _gumbel_like(alphas, key), hyper.temperature)


def _gumbel_like(alphas, key):
  return jax.tree.map(lambda a, key: jax.random.gumbel(key, a.shape, a.dtype), alphas, split_like(alphas, key))


def one_path(alphas, key, hyper: Hyperparameters):
  """One-hot β without a gradient, with operation k drawn with probability softmax(α)_k."""
  del hyper
  return most_likely(jax.tree.map(jnp.add, alphas, _gumbel_like(alphas, key)))


def two_paths(alphas, key, hyper: Hyperparameters):
  """ProxylessNAS: two operations of each edge are drawn, and a binary gate opens one of them.

  The two are drawn without replacement by softmax(α). Their probabilities become p = softmax of their two logits, and
  the gate of one of them is open with its p. So β is 1 there, and 0 elsewhere. The second operation has TINY in place
  of 0, so that Supernet(single_path=True, paths=2) knows it. The gradient is that of equation 4, restricted to the two:
  ∂β_j/∂α_i = p_j·(δ_ij − p_i) (Cai et al., ICLR 2019, section 3.2.1). An edge with one candidate has one path.
  """
  del hyper

  def draw(alpha, key):
    count = min(2, alpha.shape[-1])
    pair_key, gate_key = jax.random.split(key)
    _, pair = lax.top_k(alpha + jax.random.gumbel(pair_key, alpha.shape, alpha.dtype), count)
    p = jax.nn.softmax(jnp.take_along_axis(alpha, pair, axis=-1))
    is_first_open = jax.random.uniform(gate_key, alpha.shape[:1], alpha.dtype) < p[:, 0]
    is_open = jnp.stack([is_first_open, ~is_first_open], axis=-1)[:, :count]  # [E, count]
    gates = jnp.where(is_open, 1, TINY).astype(alpha.dtype)
    gates += p - lax.stop_gradient(p)  # 0
    return jnp.put_along_axis(jnp.zeros_like(alpha), pair, gates, axis=-1, inplace=False)

  return jax.tree.map(draw, alphas, split_like(alphas, key))


def most_likely(alphas):
  """One-hot β at the largest logit of each edge."""
  return jax.tree.map(lambda a: jax.nn.one_hot(jnp.argmax(a, axis=-1), a.shape[-1], dtype=a.dtype), alphas)


# ---- Dirichlet ----


def dirichlet(alphas, key, hyper: Hyperparameters):
  """DrNAS: β ~ Dirichlet(elu(α) + 1), differentiated through gamma variables (Chen et al., ICLR 2021)."""
  del hyper

  def draw(alpha, key):
    return jax.random.dirichlet(key, concentration(alpha), dtype=alpha.dtype)

  return jax.tree.map(draw, alphas, split_like(alphas, key))


def pathwise_dirichlet(alphas, key, hyper: Hyperparameters):
  """DrNAS as in PyTorch: the same draw, with the derivative ∂β_j/∂c_i = p_i·(δ_ij − β_j).

  The mean of the derivative is that of `dirichlet`. Its variance is smaller, because it averages over the total of the
  gamma variables.
  """
  draws = lax.stop_gradient(dirichlet(alphas, key, hyper))

  def differentiable(alpha, draw):
    c = concentration(alpha)
    return with_pathwise_derivative(c, draw, pathwise_factors(c, draw))

  return jax.tree.map(differentiable, alphas, draws)


def with_pathwise_derivative(c, draw, factors):
  """Returns `draw`, with the derivative p_i·(δ_ij − β_j) in the concentrations c. All arrays are [E, O]."""
  draw = lax.stop_gradient(draw)
  moved = lax.stop_gradient(factors) * (c - lax.stop_gradient(c))  # 0
  return draw + moved - draw * jnp.sum(moved, axis=-1, keepdims=True)


def pathwise_factors(c, draw):
  """p_i = −(∂F/∂a)(x)/(f(x)·(1 − x)), with the distribution F and the density f of x = β_i, [E, O].

  β_i has the distribution Beta(a, b) with a = c_i and b = Σc − c_i. ∂F/∂a is the integral of f(t)·(log t − ψ(a) +
  ψ(a + b)) from 0 to x, or its negative from x to 1. The substitutions t = x·s^(1/a) and t = 1 − (1 − x)·s^(1/b)
  remove the singularities, and s = r² that of the logarithm.
  """
  points, weights = np.polynomial.legendre.leggauss(32)
  r = jnp.asarray((points + 1) / 2, c.dtype)
  s, ds = jnp.square(r), jnp.asarray(weights, c.dtype) * r  # on (0, 1)
  tiny = jnp.finfo(c.dtype).tiny
  x = jnp.clip(draw, tiny, 1 - jnp.finfo(c.dtype).epsneg)[..., None]
  a = c[..., None]
  total = jnp.sum(c, axis=-1)[..., None, None]
  b = total - a
  score = digamma(total) - digamma(a)
  u = s ** (1 / a)
  below = ((1 - x * u) / (1 - x)) ** (b - 1) * (jnp.log(x) + jnp.log(s) / a + score)
  t = 1 - (1 - x) * s ** (1 / b)
  above = (t / x) ** (a - 1) * (jnp.log(t) + score)
  from_below = -jnp.sum(ds * below, axis=-1) * (x / (a * (1 - x)))[..., 0]
  from_above = jnp.sum(ds * above, axis=-1) / b[..., 0]
  return jnp.where(x < a / total, from_below[..., None], from_above[..., None])[..., 0]


def concentration(alpha: jax.Array) -> jax.Array:
  """Parameters of DrNAS's Dirichlet distribution, elu(α) + 1, at least 1e-8: [E, O].

  For α ≤ 0 this is e^α, computed without the rounding of (e^α − 1) + 1. Its slope at 0 is 1.
  """
  return jnp.maximum(jnp.where(alpha > 0, alpha + 1, jnp.exp(jnp.where(alpha > 0, 0, alpha))), 1e-8)


def split_like(tree, key):
  """Splits the key: one key for each leaf of the tree."""
  leaves, structure = jax.tree.flatten(tree)
  return structure.unflatten(list(jax.random.split(key, len(leaves))))


# ---- means and their inverses ----


def dirichlet_mean(alphas):
  """The mean of `dirichlet`: each concentration divided by the sum of its edge."""

  def mean(alpha):
    c = concentration(alpha)
    return c / jnp.sum(c, axis=-1, keepdims=True)

  return jax.tree.map(mean, alphas)


def _dirichlet_logits(betas):
  """α with mean β, whose concentrations sum to the number of operations, as those of α = 0 do."""

  def invert(c):
    return jnp.where(c > 1, c - 1, jnp.log(jnp.clip(c, 1e-8, 1)))

  return jax.tree.map(lambda beta: invert(beta * beta.shape[-1]), betas)


def _softmax_logits(betas):
  return jax.tree.map(lambda beta: jnp.log(jnp.maximum(beta, 1e-13)), betas)  # 1e-13 is negligible in float32


def _sigmoid_logits(betas):
  return jax.tree.map(lambda beta: jax.scipy.special.logit(jnp.clip(beta, 1e-7, 1 - 1e-7)), betas)


class Sampling(NamedTuple):
  """A draw of β with what belongs to it.

  Attributes:
    draw: (α, key, hyper) → β, differentiable in α.
    mean: α → the expected β; cells are derived from it.
    evaluation: α → the β at which the supernet is evaluated; None is the mean.
    logits: β → an α with that mean, the inverse of `mean`; DARTS-PT uses it.
    single_path: β is one-hot, so the supernet computes one operation per edge in training.
    paths: with single_path, the number of operations that the supernet computes where their β is above 0.
    weight_draw: the draw of the weight step; None is `draw`.
  """

  draw: Callable
  mean: Callable = softmax_betas
  evaluation: Callable | None = None
  logits: Callable = _softmax_logits
  single_path: bool = False
  paths: int = 1
  weight_draw: Callable | None = None


# A config file may register its own: RELAXATIONS['name'] = a Sampling, or a function (α, key, hyper) → β. The mean of
# such a function is softmax(α).
RELAXATIONS: dict[str, Sampling | Callable] = {
  'softmax': Sampling(softmax),
  'gumbel': Sampling(gumbel, evaluation=most_likely, single_path=True),
  'two_paths': Sampling(two_paths, evaluation=most_likely, single_path=True, paths=2, weight_draw=one_path),
  'soft_gumbel': Sampling(soft_gumbel),
  'dirichlet': Sampling(dirichlet, mean=dirichlet_mean, logits=_dirichlet_logits),
  'pathwise_dirichlet': Sampling(pathwise_dirichlet, mean=dirichlet_mean, logits=_dirichlet_logits),
  'sigmoid': Sampling(sigmoid, mean=sigmoid, logits=_sigmoid_logits),
}


def find_sampling(given: str | Sampling | Callable) -> Sampling:
  """Returns the Sampling that is given: itself, as a function (α, key, hyper) → β, or as a name of RELAXATIONS.

  Raises:
    InputError: it is none of these.
  """
  if isinstance(given, str):
    if given not in RELAXATIONS:
      raise InputError(f'relaxation {given!r}: expected one of {", ".join(RELAXATIONS)}')
    given = RELAXATIONS[given]
  if isinstance(given, Sampling):
    return given
  if not callable(given):
    raise InputError(f'relaxation {given!r}: expected a name, a Sampling or a function (alphas, key, hyper) → betas')
  return Sampling(given)

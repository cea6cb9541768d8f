"""How the logits α become β, the weights of the mixed operations.

A relaxation is a function (α, key, hyper) → β. Legend: E edges, O candidate operations of an edge; trees have a leaf
[E, O] for each cell type. Each row of β sums to 1 until edge weights multiply it.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from beta_darts_jax.errors import InputError
from beta_darts_jax.method.optimizers import Hyperparameters
from beta_darts_jax.spaces.space import SearchSpace, softmax_betas

# ---- draws: (α, key, hyper) → β, differentiable in α ----


def softmax(alphas, key, hyper: Hyperparameters):
  """DARTS: β = softmax(α). Nothing is drawn."""
  del key, hyper
  return softmax_betas(alphas)


def gumbel(alphas, key, hyper: Hyperparameters):
  """GDAS: β is one-hot, with operation k drawn with probability softmax(α)_k.

  The gradient is that of softmax((log softmax(α) + G)/τ), where G are Gumbel variables and τ = `hyper.temperature`
  (straight-through; Jang et al., ICLR 2017; Dong and Yang, CVPR 2019). With Supernet(single_path=True) only the drawn
  operation is computed, and α learns from its output.
  """

  def draw(alpha, key):
    noise = jax.random.gumbel(key, alpha.shape, alpha.dtype)
    soft = jax.nn.softmax((jax.nn.log_softmax(alpha) + noise) / hyper.temperature)
    hard = jax.nn.one_hot(jnp.argmax(soft, axis=-1), soft.shape[-1], dtype=soft.dtype)
    return hard + (soft - lax.stop_gradient(soft))

  return jax.tree.map(draw, alphas, _split_like(alphas, key))


def dirichlet(alphas, key, hyper: Hyperparameters):
  """DrNAS: β ~ Dirichlet(elu(α) + 1), differentiated through the draw (Chen et al., ICLR 2021)."""
  del hyper

  def draw(alpha, key):
    return jax.random.dirichlet(key, concentration(alpha), dtype=alpha.dtype)

  return jax.tree.map(draw, alphas, _split_like(alphas, key))


def concentration(alpha: jax.Array) -> jax.Array:
  """Parameters of DrNAS's Dirichlet distribution, elu(α) + 1, at least 1e-8: [E, O].

  For α < 0 this is e^α, computed without the rounding of (e^α − 1) + 1.
  """
  return jnp.maximum(jnp.where(alpha > 0, alpha + 1, jnp.exp(jnp.minimum(alpha, 0))), 1e-8)


def _split_like(tree, key):
  """Splits the key: one key for each leaf of the tree."""
  leaves, structure = jax.tree.flatten(tree)
  return structure.unflatten(list(jax.random.split(key, len(leaves))))


def _normalize(rows):
  return rows / jnp.sum(rows, axis=-1, keepdims=True)


def dirichlet_mean(alphas):
  """The mean of `dirichlet`: each concentration divided by the sum of its edge."""
  return jax.tree.map(lambda alpha: _normalize(concentration(alpha)), alphas)


def _dirichlet_logits(betas):
  """α with mean β, whose concentrations sum to the number of operations, as those of α = 0 do."""

  def invert(c):
    return jnp.where(c > 1, c - 1, jnp.log(jnp.clip(c, 1e-8, 1)))

  return jax.tree.map(lambda beta: invert(beta * beta.shape[-1]), betas)


def _softmax_logits(betas):
  return jax.tree.map(lambda beta: jnp.log(jnp.maximum(beta, 1e-13)), betas)  # 1e-13 is negligible in float32


def most_likely(alphas):
  """One-hot β at the largest logit of each edge."""
  return jax.tree.map(lambda a: jax.nn.one_hot(jnp.argmax(a, axis=-1), a.shape[-1], dtype=a.dtype), alphas)


class Sampling(NamedTuple):
  """A draw of β with what belongs to it.

  Attributes:
    draw: (α, key, hyper) → β, differentiable in α.
    mean: α → the expected β; cells are derived from it.
    evaluation: α → the β at which the supernet is evaluated; None is the mean.
    logits: β → an α with that mean, the inverse of `mean`; DARTS-PT uses it.
    single_path: β is one-hot, so the supernet computes one operation per edge in training.
  """

  draw: Callable
  mean: Callable = softmax_betas
  evaluation: Callable | None = None
  logits: Callable = _softmax_logits
  single_path: bool = False


# A config file may register its own: RELAXATIONS['name'] = a Sampling, or a function (α, key, hyper) → β. The mean of
# such a function is softmax(α).
RELAXATIONS: dict[str, Sampling | Callable] = {
  'softmax': Sampling(softmax),
  'gumbel': Sampling(gumbel, evaluation=most_likely, single_path=True),
  'dirichlet': Sampling(dirichlet, mean=dirichlet_mean, logits=_dirichlet_logits),
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


# ---- perturbations of β in the weight step: (β, key, hyper, loss: β → scalar) → β ----


def project_to_simplex(betas):
  """Clips each row to [0, 1] and divides it by its sum. A row of zeros becomes one-hot at its largest entry."""

  def project(beta):
    clipped = jnp.clip(beta, 0, 1)
    total = jnp.sum(clipped, axis=-1, keepdims=True)
    largest = jax.nn.one_hot(jnp.argmax(beta, axis=-1), beta.shape[-1], dtype=beta.dtype)
    return jnp.where(total > 0, clipped / jnp.where(total > 0, total, 1), largest)

  return jax.tree.map(project, betas)


def _add_uniform_noise(betas, key, radius):
  def add(beta, key):
    return beta + radius * jax.random.uniform(key, beta.shape, beta.dtype, -1, 1)

  return project_to_simplex(jax.tree.map(add, betas, _split_like(betas, key)))


def random_perturbation(betas, key, hyper: Hyperparameters, loss: Callable):
  """SDARTS-RS: adds uniform noise within ±ε, ε = `hyper.perturbation` (Chen and Hsieh, ICML 2020)."""
  del loss
  return _add_uniform_noise(betas, key, hyper.perturbation)


def adversarial_perturbation(betas, key, hyper: Hyperparameters, loss: Callable, steps: int = 7):
  """SDARTS-ADV: finds a β within ±ε that raises the loss, by projected gradient ascent from a random start.

  Args:
    betas: each row sums to 1.
    key: of the random start.
    hyper: ε is `perturbation`.
    loss: β → nats, with the running statistics of BatchNorm.
    steps: ascent steps along the sign of the gradient, each 2ε/steps long (Madry et al., ICLR 2018).

  Returns:
    The β of the last step, or `betas` if the loss there is not larger.
  """
  epsilon = hyper.perturbation

  def ascend(_, current):
    moved = jax.tree.map(lambda beta, g: beta + 2 * epsilon / steps * jnp.sign(g), current, jax.grad(loss)(current))
    near = jax.tree.map(lambda beta, m: beta + jnp.clip(m - beta, -epsilon, epsilon), betas, moved)
    return project_to_simplex(near)

  attacked = lax.fori_loop(0, steps, ascend, _add_uniform_noise(betas, key, epsilon))
  is_worse = loss(attacked) > loss(betas)
  return jax.tree.map(lambda new, old: jnp.where(is_worse, new, old), attacked, betas)


# A config file may register its own: PERTURBATIONS['name'] = function.
PERTURBATIONS: dict[str, Callable | None] = {
  'none': None,
  'random': random_perturbation,
  'adversarial': adversarial_perturbation,
}

# ---- the relaxation of a search ----


def edge_weights(logits: jax.Array, edges) -> jax.Array:
  """Edge normalization of PC-DARTS: softmax of the logits [E] over the edges `(target, source)` that share a target."""
  targets = np.array([target for target, _ in edges])
  shares_target = targets[:, None] == targets
  return jnp.exp(logits - jax.nn.logsumexp(jnp.where(shares_target, logits, -jnp.inf), axis=-1))


@dataclasses.dataclass(frozen=True)
class Relaxation:
  """How α becomes β. The parts can be combined.

  Attributes:
    sampling: a name of RELAXATIONS, a Sampling, or a function (α, key, hyper) → β.
    perturbation: of β in the weight step: a name of PERTURBATIONS, or a function (β, key, hyper, loss) → β.
    edges: the edges of the space, for the edge normalization of PC-DARTS, whose logits are `{cell type: [E]}`. () turns
      it off.
    auxiliary_skip: adds the skip connections of DARTS-: `betas['auxiliary_skip']` is `hyper.auxiliary_skip` (Chu et
      al., ICLR 2021).

  Raises:
    InputError: unknown sampling or perturbation.

  Example:
    >>> Relaxation(sampling='dirichlet').mean(({'cell': jnp.zeros((1, 4))}, {}))['cell'].tolist()
    [[0.25, 0.25, 0.25, 0.25]]
  """

  sampling: Any = 'softmax'
  perturbation: Any = 'none'
  edges: tuple[tuple[int, int], ...] = ()
  auxiliary_skip: bool = False

  def __post_init__(self):
    object.__setattr__(self, 'sampling', find_sampling(self.sampling))
    if isinstance(self.perturbation, str):
      if self.perturbation not in PERTURBATIONS:
        raise InputError(f'perturbation {self.perturbation!r}: expected one of {", ".join(PERTURBATIONS)}')
      object.__setattr__(self, 'perturbation', PERTURBATIONS[self.perturbation])
    if not (self.perturbation is None or callable(self.perturbation)):
      raise InputError(f'perturbation {self.perturbation!r}: expected a function, or one of {", ".join(PERTURBATIONS)}')

  def init_edge_logits(self, key: jax.Array, space: SearchSpace) -> dict[str, jax.Array]:
    """Draws 1e-3·N(0, 1): `{cell type: [E]}`; {} without edge normalization."""
    if not self.edges:
      return {}
    draws = 1e-3 * jax.random.normal(key, (len(space.cell_types), len(self.edges)))
    return dict(zip(space.cell_types, draws, strict=True))

  def __call__(self, architecture, key, hyper: Hyperparameters, loss: Callable | None = None):
    """Returns the β of a step.

    Args:
      architecture: (α, edge logits).
      key: of the draw.
      hyper: scalars of the step.
      loss: β → nats. It is given in the weight step, where β is perturbed.
    """
    alphas, edge_logits = architecture

    def complete(betas):
      return self.with_skip(self._with_edge_weights(betas, edge_logits), hyper)

    betas = self.sampling.draw(alphas, jax.random.fold_in(key, 0), hyper)
    if self.perturbation and loss:
      betas = self.perturbation(betas, jax.random.fold_in(key, 1), hyper, lambda betas: loss(complete(betas)))
    return complete(betas)

  def mean(self, architecture: tuple[dict, dict]) -> dict[str, jax.Array]:
    """Returns the expected weight of every operation, from which cells are derived: {cell type: [E, O]}."""
    alphas, edge_logits = architecture
    return self._with_edge_weights(self.sampling.mean(alphas), edge_logits)

  def logits(self, betas: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Returns an α whose mean is proportional to `betas` {cell type: [E, O]} on every edge."""
    return self.sampling.logits(jax.tree.map(_normalize, betas))

  def evaluation_betas(self, architecture: tuple[dict, dict], hyper: Hyperparameters) -> dict:
    """Returns the β at which the supernet is evaluated: the mean, or the most likely operations in GDAS."""
    alphas, edge_logits = architecture
    betas = (self.sampling.evaluation or self.sampling.mean)(alphas)
    return self.with_skip(self._with_edge_weights(betas, edge_logits), hyper)

  def with_skip(self, betas: dict[str, jax.Array], hyper: Hyperparameters) -> dict:
    """Returns β, in DARTS- together with the weight of its auxiliary skip connections."""
    return betas | {'auxiliary_skip': hyper.auxiliary_skip} if self.auxiliary_skip else betas

  def _with_edge_weights(self, betas, edge_logits):
    if not self.edges:
      return betas
    return {name: edge_weights(edge_logits[name], self.edges)[:, None] * beta for name, beta in betas.items()}


SOFTMAX = Relaxation()  # that of DARTS

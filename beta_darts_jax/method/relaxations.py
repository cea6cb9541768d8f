"""From logits to the weights of the mixed operations: how α becomes β.

A relaxation is a function α, key → β. Legend: E edges, O candidate operations of an edge; trees have a leaf [E, O] for
each cell type. Rows of β lie on the simplex until the edges are weighed.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from beta_darts_jax.method.optimizers import Hyperparameters
from beta_darts_jax.spaces.space import SearchSpace, softmax_betas

# ---- sampling: (α, key, hyper) → β, differentiable in α ----


def softmax(alphas, key, hyper: Hyperparameters):
  """DARTS: β = softmax(α), nothing drawn."""
  del key, hyper
  return softmax_betas(alphas)


def gumbel(alphas, key, hyper: Hyperparameters):
  """GDAS: β is one-hot, k with probability softmax(α)_k; its gradient is that of softmax((log softmax(α) + G)/τ).

  G are Gumbel variables, τ = `hyper.temperature`; the gradient is straight-through (Jang et al., ICLR 2017; Dong and
  Yang, CVPR 2019). With Supernet(sampled=True) only the drawn operation is computed, and α learns from its output.
  """

  def one(alpha, key):
    noise = jax.random.gumbel(key, alpha.shape, alpha.dtype)
    soft = jax.nn.softmax((jax.nn.log_softmax(alpha) + noise) / hyper.temperature)
    hard = jax.nn.one_hot(jnp.argmax(soft, axis=-1), soft.shape[-1], dtype=soft.dtype)
    return hard + (soft - lax.stop_gradient(soft))

  return jax.tree.map(one, alphas, _keys(alphas, key))


def dirichlet(alphas, key, hyper: Hyperparameters):
  """DrNAS: β ~ Dirichlet(elu(α) + 1), differentiated through its draws (Chen et al., ICLR 2021)."""
  del hyper
  draw = lambda alpha, key: jax.random.dirichlet(key, concentration(alpha), dtype=alpha.dtype)
  return jax.tree.map(draw, alphas, _keys(alphas, key))


def concentration(alpha: jax.Array) -> jax.Array:
  """DrNAS's parameters of the Dirichlet distribution, elu(α) + 1: [E, O], 1e-8 at least.

  Where α < 0 it is e^α, without the rounding of (e^α − 1) + 1.
  """
  return jnp.maximum(jnp.where(alpha > 0, alpha + 1, jnp.exp(jnp.minimum(alpha, 0))), 1e-8)


def _keys(tree, key):
  """A key for each leaf."""
  leaves, structure = jax.tree.flatten(tree)
  return structure.unflatten(list(jax.random.split(key, len(leaves))))


def _dirichlet_mean(alphas):
  share = lambda c: c / jnp.sum(c, axis=-1, keepdims=True)
  return jax.tree.map(lambda alpha: share(concentration(alpha)), alphas)


def _dirichlet_logits(betas):
  """Of concentrations that add up to the number of operations, as those of α = 0 do."""
  of = lambda c: jnp.where(c > 1, c - 1, jnp.log(jnp.clip(c, 1e-8, 1)))
  return jax.tree.map(lambda beta: of(beta * beta.shape[-1]), betas)


def _softmax_logits(betas):
  return jax.tree.map(lambda beta: jnp.log(jnp.maximum(beta, 1e-13)), betas)  # e⁻³⁰ is nothing in float32


def _most_probable(alphas):
  return jax.tree.map(lambda a: jax.nn.one_hot(jnp.argmax(a, axis=-1), a.shape[-1], dtype=a.dtype), alphas)


# name → (sample, its mean: α → β, the β of evaluations: α → β, the inverse of the mean: β → α)
SAMPLINGS = {
  'softmax': (softmax, softmax_betas, softmax_betas, _softmax_logits),
  'gumbel': (gumbel, softmax_betas, _most_probable, _softmax_logits),
  'dirichlet': (dirichlet, _dirichlet_mean, _dirichlet_mean, _dirichlet_logits),
}

# ---- perturbations of β in the weight step: (β, key, hyper, loss: β → scalar) → β ----


def projected(betas):
  """Rows clipped to [0, 1] and divided by their sum; a row of zeros becomes one-hot at what was its largest."""

  def one(beta):
    clipped = jnp.clip(beta, 0, 1)
    total = jnp.sum(clipped, axis=-1, keepdims=True)
    largest = jax.nn.one_hot(jnp.argmax(beta, axis=-1), beta.shape[-1], dtype=beta.dtype)
    return jnp.where(total > 0, clipped / jnp.where(total > 0, total, 1), largest)

  return jax.tree.map(one, betas)


def _shaken(betas, key, radius):
  noise = lambda beta, key: radius * jax.random.uniform(key, beta.shape, beta.dtype, -1, 1)
  return projected(jax.tree.map(lambda beta, key: beta + noise(beta, key), betas, _keys(betas, key)))


def random_perturbation(betas, key, hyper: Hyperparameters, loss: Callable):
  """SDARTS-RS: uniform noise within ±ε = `hyper.perturbation` (Chen and Hsieh, ICML 2020)."""
  del loss
  return _shaken(betas, key, hyper.perturbation)


def adversarial_perturbation(betas, key, hyper: Hyperparameters, loss: Callable, steps: int = 7):
  """SDARTS-ADV: the β within ±ε that raises the loss, by projected gradient ascent from a random start.

  Args:
    betas: rows on the simplex.
    key: of the start.
    hyper: with ε = `perturbation`.
    loss: of β, in nats; with running statistics of BatchNorm, so that it is of the network as it is.
    steps: of the sign of the gradient, 2ε/steps long (Madry et al., ICLR 2018).

  Returns:
    The β of the last step; `betas`, where its loss is not larger.
  """
  epsilon = hyper.perturbation

  def ascend(_, current):
    moved = jax.tree.map(lambda beta, g: beta + 2 * epsilon / steps * jnp.sign(g), current, jax.grad(loss)(current))
    return projected(jax.tree.map(lambda beta, m: beta + jnp.clip(m - beta, -epsilon, epsilon), betas, moved))

  found = lax.fori_loop(0, steps, ascend, _shaken(betas, key, epsilon))
  better = loss(found) > loss(betas)
  return jax.tree.map(lambda new, old: jnp.where(better, new, old), found, betas)


PERTURBATIONS = {'none': None, 'random': random_perturbation, 'adversarial': adversarial_perturbation}

# ---- the whole ----


def edge_weights(logits: jax.Array, edges) -> jax.Array:
  """PC-DARTS' edge normalisation: softmax of the logits [E] over the edges `(target, source)` that share a target."""
  targets = np.array([target for target, _ in edges])
  same = targets[:, None] == targets
  return jnp.exp(logits - jax.nn.logsumexp(jnp.where(same, logits, -jnp.inf), axis=-1))


@dataclasses.dataclass(frozen=True)
class Relaxation:
  """How α becomes β; the parts combine.

  Attributes:
    sampling: a key of SAMPLINGS.
    perturbation: a key of PERTURBATIONS.
    edges: of the space, for PC-DARTS' edge normalisation, whose logits `{cell type: [E]}` are beside α; () is without.
    auxiliary_skip: DARTS-'s: `betas['auxiliary_skip']` is `hyper.auxiliary_skip` (Chu et al., ICLR 2021).

  Example:
    >>> Relaxation(sampling='dirichlet').mean(({'cell': jnp.zeros((1, 4))}, {}))['cell'].tolist()
    [[0.25, 0.25, 0.25, 0.25]]
  """

  sampling: str = 'softmax'
  perturbation: str = 'none'
  edges: tuple[tuple[int, int], ...] = ()
  auxiliary_skip: bool = False

  def init_edge_logits(self, key: jax.Array, space: SearchSpace) -> dict[str, jax.Array]:
    """1e-3·N(0, 1): `{cell type: [E]}`; {} without edge normalisation."""
    if not self.edges:
      return {}
    draws = 1e-3 * jax.random.normal(key, (len(space.cell_types), len(self.edges)))
    return dict(zip(space.cell_types, draws, strict=True))

  def __call__(self, architecture, key, hyper: Hyperparameters, loss: Callable | None = None):
    """The β of a step.

    Args:
      architecture: (α, edge logits).
      key: of what is drawn.
      hyper: scalars of the step.
      loss: of β; given in the weight step, where β is perturbed.
    """
    alphas, edge_logits = architecture
    sample, perturb = SAMPLINGS[self.sampling][0], PERTURBATIONS[self.perturbation]
    betas = sample(alphas, jax.random.fold_in(key, 0), hyper)
    if perturb and loss:
      whole = lambda betas: loss(self._completed(betas, edge_logits, hyper))
      betas = perturb(betas, jax.random.fold_in(key, 1), hyper, whole)
    return self._completed(betas, edge_logits, hyper)

  def mean(self, architecture: tuple[dict, dict]) -> dict[str, jax.Array]:
    """The expected weight of every operation, what cells are derived from: {cell type: [E, O]}."""
    alphas, edge_logits = architecture
    return self._weighed(SAMPLINGS[self.sampling][1](alphas), edge_logits)

  def logits(self, betas: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """An α whose mean has the shares of `betas` {cell type: [E, O]} on every edge."""
    share = lambda beta: beta / jnp.sum(beta, axis=-1, keepdims=True)
    return SAMPLINGS[self.sampling][3](jax.tree.map(share, betas))

  def evaluated(self, architecture: tuple[dict, dict], hyper: Hyperparameters) -> dict:
    """The β at which the supernet is evaluated: the mean; of GDAS, which trains single operations, the likeliest."""
    alphas, edge_logits = architecture
    return self._completed(SAMPLINGS[self.sampling][2](alphas), edge_logits, hyper)

  def with_skip(self, betas: dict[str, jax.Array], hyper: Hyperparameters) -> dict:
    """β and, of DARTS-, the weight of its auxiliary skip connections."""
    return betas | {'auxiliary_skip': hyper.auxiliary_skip} if self.auxiliary_skip else betas

  def _weighed(self, betas, edge_logits):
    if not self.edges:
      return betas
    return {name: edge_weights(edge_logits[name], self.edges)[:, None] * beta for name, beta in betas.items()}

  def _completed(self, betas, edge_logits, hyper):
    return self.with_skip(self._weighed(betas, edge_logits), hyper)


SOFTMAX = Relaxation()  # DARTS'

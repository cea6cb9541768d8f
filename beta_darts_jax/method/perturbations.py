"""Perturbations of β in the weight step (SDARTS): functions (β, key, hyper, loss: β → scalar) → β.

Trees have a leaf [E, O] for each cell type: E edges, O candidate operations of an edge.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from beta_darts_jax.method.optimizers import Hyperparameters
from beta_darts_jax.method.samplings import split_like


def project_to_simplex(betas):
  """Clips each row to [0, 1] and divides it by its sum. A row of zeros becomes one-hot at its largest entry."""

  def project(beta):
    clipped = jnp.clip(beta, 0, 1)
    total = jnp.sum(clipped, axis=-1, keepdims=True)
    largest = jax.nn.one_hot(jnp.argmax(beta, axis=-1), beta.shape[-1], dtype=beta.dtype)
    return jnp.where(total > 0, clipped / jnp.where(total > 0, total, 1), largest)

  return jax.tree.map(project, betas)


def _uniform_like(betas, key, radius):
  def draw(beta, key):
    return radius * jax.random.uniform(key, beta.shape, beta.dtype, -1, 1)

  return jax.tree.map(draw, betas, split_like(betas, key))


def add_noise(betas, noise):
  """Adds the noise, a tree like β, and brings the rows back to the simplex."""
  return project_to_simplex(jax.tree.map(jnp.add, betas, noise))


def random_perturbation(betas, key, hyper: Hyperparameters, loss: Callable):
  """SDARTS-RS: adds uniform noise within ±ε, ε = `hyper.perturbation` (Chen and Hsieh, ICML 2020)."""
  del loss
  return add_noise(betas, _uniform_like(betas, key, hyper.perturbation))


def adversarial_perturbation(betas, key, hyper: Hyperparameters, loss: Callable, steps: int = 7):
  """SDARTS-ADV: finds a β within ±ε that raises the loss, by projected gradient ascent from a random start.

  Args:
    betas: each row sums to 1.
    key: key of the random start.
    hyper: ε is `perturbation`.
    loss: β → nats, with the running statistics of BatchNorm.
    steps: ascent steps along the sign of the gradient, each 2ε/steps long (Madry et al., ICLR 2018).

  Returns:
    The β of the last step, or `betas` if the loss there is not larger.
  """
  return attack(betas, _uniform_like(betas, key, hyper.perturbation), hyper.perturbation, loss, steps)


def attack(betas, noise, epsilon, loss: Callable, steps: int = 7):
  """`adversarial_perturbation` from the start β + noise."""

  def ascend(_, current):
    moved = jax.tree.map(lambda beta, g: beta + 2 * epsilon / steps * jnp.sign(g), current, jax.grad(loss)(current))
    near = jax.tree.map(lambda beta, m: beta + jnp.clip(m - beta, -epsilon, epsilon), betas, moved)
    return project_to_simplex(near)

  attacked = lax.fori_loop(0, steps, ascend, add_noise(betas, noise))
  is_worse = loss(attacked) > loss(betas)
  return jax.tree.map(lambda new, old: jnp.where(is_worse, new, old), attacked, betas)


# A config file may register its own: PERTURBATIONS['name'] = function.
PERTURBATIONS: dict[str, Callable | None] = {
  'none': None,
  'random': random_perturbation,
  'adversarial': adversarial_perturbation,
}

"""How the logits α become β, the weights of the mixed operations.

A relaxation is a function (α, key, hyper) → β: a draw of samplings.py, a perturbation of perturbations.py, and the
weights of edges. Legend: E edges, O candidate operations of an edge; trees have a leaf [E, O] for each cell type.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from beta_darts_jax.errors import InputError
from beta_darts_jax.method.optimizers import Hyperparameters
from beta_darts_jax.method.perturbations import PERTURBATIONS
from beta_darts_jax.method.samplings import find_sampling
from beta_darts_jax.spaces.space import ALPHA_NOISE, SearchSpace, softmax_betas

STRENGTHS = ('mean', 'softmax')


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
    perturbation: changes β in the weight step: a name of PERTURBATIONS, or a function (β, key, hyper, loss) → β.
    edges: the edges of the space, for the edge normalization of PC-DARTS, whose logits are `{cell type: [E]}`. () turns
      it off.
    auxiliary_skip: adds the skip connections of DARTS-: `betas['auxiliary_skip']` is `hyper.auxiliary_skip` (Chu et
      al., ICLR 2021).
    strength: what ranks operations and edges when a cell is derived: the 'mean' of β, or the 'softmax' of α, as in the
      official DrNAS of the DARTS space.

  Raises:
    InputError: unknown sampling, perturbation or strength.

  Example:
    >>> Relaxation(sampling='dirichlet').mean(({'cell': jnp.zeros((1, 4))}, {}))['cell'].tolist()
    [[0.25, 0.25, 0.25, 0.25]]
  """

  sampling: Any = 'softmax'
  perturbation: Any = 'none'
  edges: tuple[tuple[int, int], ...] = ()
  auxiliary_skip: bool = False
  strength: str = 'mean'

  def __post_init__(self):
    object.__setattr__(self, 'sampling', find_sampling(self.sampling))
    if self.strength not in STRENGTHS:
      raise InputError(f'strength {self.strength!r}: expected one of {", ".join(STRENGTHS)}')
    if isinstance(self.perturbation, str):
      if self.perturbation not in PERTURBATIONS:
        raise InputError(f'perturbation {self.perturbation!r}: expected one of {", ".join(PERTURBATIONS)}')
      object.__setattr__(self, 'perturbation', PERTURBATIONS[self.perturbation])
    if not (self.perturbation is None or callable(self.perturbation)):
      raise InputError(f'perturbation {self.perturbation!r}: expected a function, or one of {", ".join(PERTURBATIONS)}')

  def init_edge_logits(self, key: jax.Array, space: SearchSpace) -> dict[str, jax.Array]:
    """Draws ALPHA_NOISE·N(0, 1): `{cell type: [E]}`; {} without edge normalization."""
    if not self.edges:
      return {}
    draws = ALPHA_NOISE * jax.random.normal(key, (len(space.cell_types), len(self.edges)))
    return dict(zip(space.cell_types, draws, strict=True))

  def __call__(self, architecture: tuple[dict, dict], key: jax.Array, hyper: Hyperparameters) -> dict:
    """Returns the β of the α step for the architecture (α, edge logits), in the form of `with_skip`."""
    alphas, edge_logits = architecture
    betas = self.sampling.draw(alphas, jax.random.fold_in(key, 0), hyper)
    return self._complete(betas, edge_logits, hyper)

  def weight_betas(
    self, architecture: tuple[dict, dict], key: jax.Array, hyper: Hyperparameters, loss: Callable
  ) -> dict:
    """Draws and perturbs the β of the weight step, and returns it in the form of `with_skip`.

    Args:
      architecture: (α, edge logits).
      key: key of the draw and of the perturbation.
      hyper: scalars of the step.
      loss: β → training loss in nats.
    """
    alphas, edge_logits = architecture
    draw = self.sampling.weight_draw or self.sampling.draw
    betas = draw(alphas, jax.random.fold_in(key, 0), hyper)
    if self.perturbation:

      def perturbed_loss(betas):
        return loss(self._complete(betas, edge_logits, hyper))

      betas = self.perturbation(betas, jax.random.fold_in(key, 1), hyper, perturbed_loss)
    return self._complete(betas, edge_logits, hyper)

  def mean(self, architecture: tuple[dict, dict]) -> dict[str, jax.Array]:
    """Returns the expected weight of every operation, {cell type: [E, O]}."""
    alphas, edge_logits = architecture
    return self._with_edge_weights(self.sampling.mean(alphas), edge_logits)

  def strengths(self, architecture: tuple[dict, dict]) -> dict[str, jax.Array]:
    """Returns the weights from which cells are derived, {cell type: [E, O]}: the mean, or softmax(α)."""
    if self.strength == 'mean':
      return self.mean(architecture)
    alphas, edge_logits = architecture
    return self._with_edge_weights(softmax_betas(alphas), edge_logits)

  def logits(self, betas: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Returns an α whose mean is proportional to `betas` {cell type: [E, O]} on every edge."""
    return self.sampling.logits(jax.tree.map(lambda beta: beta / jnp.sum(beta, axis=-1, keepdims=True), betas))

  def with_decided(
    self, alphas: dict[str, jax.Array], betas: dict[str, jax.Array], decided: dict[str, jax.Array]
  ) -> dict[str, jax.Array]:
    """Returns α in which the rows of the decided edges, {cell type: bool [E]}, have a mean proportional to `betas`."""

    def set_rows(alpha, decided, logits):
      return jnp.where(decided[:, None], logits, alpha)

    return jax.tree.map(set_rows, alphas, decided, self.logits(betas))

  def evaluation_betas(self, architecture: tuple[dict, dict], hyper: Hyperparameters) -> dict:
    """Returns the β at which the supernet is evaluated: the mean, or the most likely operations in GDAS."""
    alphas, edge_logits = architecture
    betas = (self.sampling.evaluation or self.sampling.mean)(alphas)
    return self._complete(betas, edge_logits, hyper)

  def with_skip(self, betas: dict[str, jax.Array], hyper: Hyperparameters) -> dict:
    """Returns β {cell type: [E, O]}; DARTS- adds the weight of its skip connections, {'auxiliary_skip': scalar}."""
    return betas | {'auxiliary_skip': hyper.auxiliary_skip} if self.auxiliary_skip else betas

  def _complete(self, betas, edge_logits, hyper):
    return self.with_skip(self._with_edge_weights(betas, edge_logits), hyper)

  def _with_edge_weights(self, betas, edge_logits):
    if not self.edges:
      return betas
    return {name: edge_weights(edge_logits[name], self.edges)[:, None] * beta for name, beta in betas.items()}


SOFTMAX = Relaxation()  # that of DARTS

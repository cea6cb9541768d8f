"""Which cell a search keeps: early stopping, the best epoch, and selection by perturbation (DARTS-PT)."""

from collections.abc import Callable, Sequence

import numpy as np

from beta_darts_jax.spaces.genotype import Genotype
from beta_darts_jax.spaces.space import SearchSpace

# ---- which epoch ----


def eigenvalue_stop(eigenvalues: Sequence[float], ratio: float, window: int = 5) -> int | None:
  """Early stopping of RobustDARTS (Zela et al., ICLR 2020).

  Let λ̄ be the mean magnitude of the dominant eigenvalue over `window` measurements. The search stops when λ̄ of
  `window` measurements ago is less than `ratio` times λ̄ now, and keeps the cell of then.

  Args:
    eigenvalues: the dominant eigenvalue of α's Hessian, measurement by measurement.
    ratio: 0.75 in RobustDARTS.
    window: measurements.

  Returns:
    The index of the measurement whose cell is kept, or None if the search continues.
  """
  values = np.abs(eigenvalues)
  for i in range(2 * window - 1, len(values)):
    before, now = values[i - 2 * window + 1 : i - window + 1].mean(), values[i - window + 1 : i + 1].mean()
    if before < ratio * now:
      return i - window
  return None


def skip_stop(num_skips: Sequence[int | None], limit: int) -> int | None:
  """Early stopping of DARTS+ (Liang et al., 2019): the first epoch whose normal cell has `limit` skip connections.

  Args:
    num_skips: skip connections of the normal cell, epoch by epoch; None where there is no cell.
    limit: skip connections.

  Returns:
    The index of the epoch, or None if the search continues.

  Example:
    >>> skip_stop([1, 2, 4], limit=2)
    1
  """
  return next((i for i, skips in enumerate(num_skips) if skips is not None and skips >= limit), None)


def best_epoch(accuracies: Sequence[float | None]) -> int:
  """Returns the index of the highest accuracy, the first one of equals; None counts as the lowest."""
  return int(np.argmax([-1.0 if accuracy is None else accuracy for accuracy in accuracies]))


# ---- selection by perturbation ----


def select_by_perturbation(
  space: SearchSpace, betas, accuracy_of: Callable, tune: Callable = lambda betas: None, seed: int = 0
) -> Genotype:
  """DARTS-PT (Wang et al., ICLR 2021): each edge keeps the operation that the supernet misses most.

  The edges are visited in random order. On each edge the supernet is evaluated without one operation at a time; the
  operation without which the accuracy is lowest stays. Where a node keeps two edges, the edges follow, node by node,
  by the same rule. The weights are not tuned between these decisions, since no α removes an edge. `none` stays only
  where the space can derive it.

  Args:
    space: the search space.
    betas: of the supernet, {cell type: [E, O]}.
    accuracy_of: list of n β of this form → [n] accuracies.
    tune: called with the remaining β before each decision but the first, to train the weights for it.
    seed: of the orders.
  """
  betas = {name: np.array(betas[name], np.float32) for name in space.cell_types}
  rng = np.random.default_rng(seed)
  betas = select_operations(space, betas, accuracy_of, tune, rng)
  if space.skeleton == 'darts':
    betas = select_edges(space, betas, accuracy_of, tune, rng)
  return space.derive(betas)


def select_operations(space, betas, accuracy_of, tune, rng) -> dict[str, np.ndarray]:
  """Returns β in which each edge has one operation left, with the sum of the edge's β; see select_by_perturbation."""
  can_derive_none = space.skeleton != 'darts'
  places = [(name, e) for name in space.cell_types for e in range(len(space.edges))]
  for number, place in enumerate(rng.permutation(len(places))):
    name, e = places[place]
    if number:
      tune(_copy(betas))
    candidates = [k for k, o in enumerate(space.candidates(name)[e]) if o != 'none' or can_derive_none]
    accuracies = accuracy_of([_without(betas, name, e, k) for k in candidates])
    kept = candidates[int(np.argmin(accuracies))]
    betas[name][e] = betas[name][e].sum() * np.eye(len(betas[name][e]))[kept]
  return betas


def select_edges(space, betas, accuracy_of, tune, rng) -> dict[str, np.ndarray]:
  """Returns β whose strengths rank the edges of each node as the supernet misses them; see select_by_perturbation."""
  entering = [
    (name, [e for e, (target, _) in enumerate(space.edges) if target == node])
    for name in space.cell_types
    for node in dict.fromkeys(target for target, _ in space.edges)
  ]
  if any(len(edges) > 2 for _, edges in entering):
    tune(_copy(betas))
  strengths = _copy(betas)
  for i in rng.permutation(len(entering)):
    name, edges = entering[i]
    accuracies = accuracy_of([_without(betas, name, e) for e in edges])
    most_missed_first = [edges[k] for k in np.argsort(accuracies, kind='stable')]
    for rank, e in enumerate(most_missed_first):
      strengths[name][e] *= (len(edges) - rank) / strengths[name][e].sum()
      if rank >= 2:
        betas[name][e] = 0
  return strengths


def _without(betas, name, e, k=slice(None)):
  """A copy of β in which operation k of edge e, or the whole edge, has weight 0."""
  copy = _copy(betas)
  copy[name][e, k] = 0
  return copy


def _copy(betas):
  return {name: beta.copy() for name, beta in betas.items()}

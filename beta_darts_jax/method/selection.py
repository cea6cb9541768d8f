"""From a search to its cell, beyond the arg-max of β: which epoch's, when to stop, and selection by perturbation."""

from collections.abc import Callable

import numpy as np

from beta_darts_jax.spaces.genotype import Genotype
from beta_darts_jax.spaces.space import SearchSpace

# ---- which epoch; a history is what metrics.jsonl says of one member, epoch by epoch ----


def eigenvalue_stop(history: list[dict], ratio: float, window: int = 5) -> int | None:
  """RobustDARTS' early stopping (Zela et al., ICLR 2020): the epoch whose cell to keep, None to go on.

  λ̄ is the mean of the dominant eigenvalue's magnitude over the last `window` epochs that have one. The search stops
  when λ̄, `window` epochs ago, was less than `ratio` of λ̄ now, and keeps the cell of then.
  """
  measured = [row for row in history if 'eigenvalues' in row.get('diagnostics', {})]
  values = np.abs([row['diagnostics']['eigenvalues'][0] for row in measured])
  for i in range(2 * window - 1, len(values)):
    before, now = values[i - 2 * window + 1 : i - window + 1].mean(), values[i - window + 1 : i + 1].mean()
    if before < ratio * now:
      return measured[i - window]['epoch']
  return None


def skip_stop(history: list[dict], skips: int) -> int | None:
  """DARTS+'s early stopping (Liang et al., 2019): the first epoch whose normal cell has so many skip connections.

  Example:
    >>> skip_stop([{'epoch': 0, 'skips': 1}, {'epoch': 1, 'skips': 2}], skips=2)
    1
  """
  return next((row['epoch'] for row in history if row['skips'] is not None and row['skips'] >= skips), None)


def stopped(history: list[dict], eigenvalue_ratio: float = 0.0, eigenvalue_window: int = 5, skips: int = 0):
  """The epoch whose cell to keep by the rules that are on (not 0), the earlier one of two; None to go on."""
  found = [
    eigenvalue_stop(history, eigenvalue_ratio, eigenvalue_window) if eigenvalue_ratio else None,
    skip_stop(history, skips) if skips else None,
  ]
  return min((epoch for epoch in found if epoch is not None), default=None)


def best_epoch(history: list[dict]) -> int:
  """The epoch of the highest validation accuracy of the supernet, the first of equals."""
  return max(history, key=lambda row: -1.0 if row['valid_accuracy'] is None else row['valid_accuracy'])['epoch']


# ---- selection by perturbation ----


def select_by_perturbation(
  space: SearchSpace, betas, accuracy_of: Callable, tune: Callable = lambda betas: None, seed: int = 0
) -> Genotype:
  """DARTS-PT (Wang et al., ICLR 2021): on each edge the operation that the supernet misses most.

  Edge by edge, in random order: the accuracy of the supernet without each of its operations; the one without which it
  is lowest stays, alone. Where a node keeps two edges, those follow, node by node: the two without which it is lowest
  (the weights are not tuned in between, as no α leaves out an edge). `none` stays only where it can be derived.

  Args:
    space: what was searched.
    betas: of the supernet, {cell type: [E, O]}.
    accuracy_of: list of β like these → [number of them] accuracies.
    tune: called with the β of what is left after each operation's decision that another one follows, to train the
      weights for it.
    seed: of the orders.
  """
  betas = {name: np.array(betas[name], np.float32) for name in space.cell_types}
  rng = np.random.default_rng(seed)
  places = [(name, e) for name in space.cell_types for e in range(len(space.edges))]
  two_edges = space.skeleton == 'darts'
  for i, place in enumerate(rng.permutation(len(places))):
    name, e = places[place]
    if i:
      tune(_copy(betas))
    candidates = [k for k, o in enumerate(space.candidates(name)[e]) if o != 'none' or not two_edges]
    kept = candidates[int(np.argmin(accuracy_of([_without(betas, name, e, k) for k in candidates])))]
    betas[name][e] = betas[name][e].sum() * np.eye(len(betas[name][e]))[kept]
  if two_edges:
    entering = {
      (name, target): [e for e, (to, _) in enumerate(space.edges) if to == target]
      for name in space.cell_types
      for target, _ in space.edges
    }
    if any(len(edges) > 2 for edges in entering.values()):
      tune(_copy(betas))
    strengths = _copy(betas)
    for i in rng.permutation(len(entering)):
      (name, _), edges = list(entering.items())[i]
      order = [edges[i] for i in np.argsort(accuracy_of([_without(betas, name, e) for e in edges]), kind='stable')]
      for rank, e in enumerate(order):
        strengths[name][e] *= (len(order) - rank) / strengths[name][e].sum()
        if rank >= 2:
          betas[name][e] = 0
    betas = strengths
  return space.derive(betas)


def _without(betas, name, e, k=slice(None)):
  """A copy in which operation k of edge e, or the edge, counts nothing."""
  copy = _copy(betas)
  copy[name][e, k] = 0
  return copy


def _copy(betas):
  return {name: beta.copy() for name, beta in betas.items()}

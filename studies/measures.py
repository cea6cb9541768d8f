"""What a study's searches came to, as numbers with their spread: measures of one search, and tests between arms.

A history is what metrics.jsonl says of one search, epoch by epoch.
"""

import itertools
import math

import numpy as np

from beta_darts_jax.spaces.genotype import Genotype
from beta_darts_jax.spaces.nas_bench_201 import DATASETS, NasBench201

PARAMETER_FREE = ('none', 'skip_connect', 'avg_pool_3x3', 'max_pool_3x3', 'noise')
COLLAPSED = 3  # parameter-free edges of a cell of NAS-Bench-201, from which on it counts as collapsed
# the cell that β-DARTS is published to find on NAS-Bench-201
PUBLISHED = '|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|'


# ---- of a cell ----


def percentile(table: NasBench201, cell) -> float:
  """Share of the benchmark's other cells that are no better, 0 to 100, mean over the three test columns."""
  ranks = [table.rank(cell, f'{dataset}_test') for dataset in DATASETS]
  return float(np.mean([100 * (len(table) - rank) / (len(table) - 1) for rank in ranks]))


def parameter_free(cell: Genotype) -> int:
  """Edges of the (normal) cell whose operation has no weights."""
  return sum(name in PARAMETER_FREE for name in cell.normal.operations)


def distance(cell: Genotype, other: Genotype) -> int:
  """Edges in which two cells of NAS-Bench-201 differ."""
  return sum(a != b for a, b in zip(cell.normal.operations, other.normal.operations, strict=True))


# ---- of a search ----


def tail(history: list[dict], share: float = 0.2) -> list[dict]:
  """The rows of the last `share` of the epochs, one at least."""
  return history[-max(1, math.ceil(share * len(history))) :]


def flips(history: list[dict]) -> float | None:
  """Changes of a cell's operations from one epoch to the next, mean over the transitions; None of a single epoch."""
  cells = [Genotype.parse(row['genotype']) for row in history]
  changes = [distance(*pair) for pair in itertools.pairwise(cells)]
  return float(np.mean(changes)) if changes else None


def steadiness(history: list[dict]) -> float | None:
  """Median over edges of the last epoch's margin between the two largest β over the spread of its changes by epoch.

  Edges whose margin changes evenly, or not at all, are left out; None where there is no other, or under three epochs.
  """
  margins = []
  for row in history:
    top = np.sort(np.concatenate([np.asarray(beta) for beta in row['betas'].values()]), axis=-1)
    margins.append(top[:, -1] - top[:, -2])
  if len(margins) < 3:
    return None
  changes = np.std(np.diff(margins, axis=0), axis=0, ddof=1)
  moving = changes > 1e-9
  return float(np.median(margins[-1][moving] / changes[moving])) if moving.any() else None


def logits(row: dict) -> np.ndarray:
  """α of an epoch, centred on every edge, flat: log β less its mean over the operations."""
  alphas = [np.log(np.asarray(beta)) for beta in row['betas'].values()]
  return np.concatenate([(alpha - alpha.mean(axis=-1, keepdims=True)).ravel() for alpha in alphas])


def measures(history: list[dict], table: NasBench201 | None) -> dict:
  """One search in numbers; those of the benchmark only with its table; None throughout of one that diverged.

  Returns:
    genotype, parameter_free, steadiness, epochs, seconds. Of the benchmark percentile (mean over the last 20 % of
    epochs), final_percentile, the test accuracies in percent, collapsed, flips, distance_to_published.
  """
  text = history[-1]['genotype']
  names = ['parameter_free', 'steadiness']
  tests = {f'{dataset}_test': None for dataset in DATASETS}
  if table:
    names += ['percentile', 'final_percentile', *tests, 'collapsed', 'flips', 'distance_to_published']
  found = {'genotype': text} | dict.fromkeys(names)
  found |= {'epochs': len(history), 'seconds': round(sum(row['seconds'] for row in history), 1)}
  if text is None:
    return found
  cell = Genotype.parse(text)
  found |= {'parameter_free': parameter_free(cell), 'steadiness': steadiness(history)}
  if table:
    found |= {
      'percentile': float(np.mean([percentile(table, row['genotype']) for row in tail(history)])),
      'final_percentile': percentile(table, cell),
      'collapsed': int(parameter_free(cell) >= COLLAPSED),
      'flips': flips(history),
      'distance_to_published': distance(cell, Genotype.parse(PUBLISHED)),
    }
    found |= {name: getattr(table[cell], name) for name in tests}
  return found


# ---- of arms ----


def paired_p(differences) -> float:
  """Exact two-sided p of the sign-flip test of paired differences: of all 2ⁿ signs, those with as large a |mean|.

  With n pairs it is 2/2ⁿ at least. Of more than 20 pairs, 99,999 signs drawn at random and the given ones.

  Example:
    >>> paired_p([1.2, 0.4, 0.9, 2.0, 0.7, 1.1])  # all six of one sign
    0.03125
  """
  differences = np.asarray(differences, float)
  if (n := len(differences)) <= 20:
    signs = np.array(list(itertools.product((1, -1), repeat=n)), np.int8)
  else:
    signs = np.random.default_rng(0).choice(np.array((1, -1), np.int8), (100_000, n))
    signs[0] = 1
  sums = np.abs(signs @ differences)
  return float(np.mean(sums >= abs(differences.sum()) - 1e-9))


def energy_p(a, b, permutations: int = 9999, seed: int = 0) -> float:
  """p of the permutation test of whether two samples of vectors, [n, D] and [m, D], are of one distribution.

  Statistic: the energy distance 2·E|X−Y| − E|X−X'| − E|Y−Y'|, each entry in units of its standard deviation over both
  samples together, which no permutation changes (Székely and Rizzo, 2013). Entries that are constant say nothing.
  """
  both = np.concatenate(_varying(a, b))
  both = both / both.std(axis=0)
  distances = np.linalg.norm(both[:, None] - both[None], axis=-1)

  def statistic(order):
    x, y = order[: len(a)], order[len(a) :]
    mean = lambda rows, columns: distances[np.ix_(rows, columns)].mean()
    return 2 * mean(x, y) - mean(x, x) - mean(y, y)

  rng = np.random.default_rng(seed)
  seen = statistic(np.arange(len(both)))
  others = [statistic(rng.permutation(len(both))) for _ in range(permutations)]
  return (1 + sum(other >= seen - 1e-12 for other in others)) / (1 + permutations)


def _varying(a, b):
  """Of two samples of vectors, the entries that are not the same in all vectors of both."""
  varies = np.ptp(np.concatenate([a, b]), axis=0) > 0
  return a[:, varies], b[:, varies]


def gap_of_means(a, b, draws: int = 9999, seed: int = 0) -> tuple[float, float]:
  """How far apart the means of two samples of vectors are, [n, D] and [m, D], and what that is below with 95 %.

  Root mean square over the D entries of the difference of the means, each in units of its pooled standard deviation;
  the bound is the 95th percentile of the bootstrap within each sample: nearly exact for one entry, too high for many.
  Entries that are constant over both samples say nothing, and are left out; if there are no others, (0, 0).
  """
  a, b = _varying(a, b)
  if not a.shape[1]:
    return 0.0, 0.0
  squares = sum(((x - x.mean(axis=0)) ** 2).sum(axis=0) for x in (a, b))
  std = np.sqrt(squares / (len(a) + len(b) - 2))
  gap = lambda x, y: float(np.sqrt(np.mean(((x.mean(axis=0) - y.mean(axis=0)) / std) ** 2)))
  rng = np.random.default_rng(seed)
  again = lambda x: x[rng.integers(len(x), size=len(x))]
  return gap(a, b), float(np.percentile([gap(again(a), again(b)) for _ in range(draws)], 95))


def baselines(table: NasBench201, dataset: str, draws: int = 2000, seed: int = 0) -> dict[str, dict]:
  """Cells and rules to hold searches against: {name: {measure: mean over draws}}; measures as in `measures`.

  random: a cell drawn uniformly; best of k: the best of k such by validation accuracy on `dataset`; all 3×3; most
  parameters (the first of equals); the cell that β-DARTS is published to find.
  """
  tests = {f'{d}_test': table.column(f'{d}_test') for d in DATASETS}
  no_better = lambda x: 100 * (np.searchsorted(np.sort(x), x, side='right') - 1) / (len(x) - 1)
  free = np.array([parameter_free(cell) for cell in table])
  of_cells = {
    'percentile': np.mean([no_better(column) for column in tests.values()], axis=0),
    **tests,
    'collapsed': free >= COLLAPSED,
    'parameter_free': free,
  }
  valid = table.column(f'{dataset}_valid')
  cells = list(map(str, table))

  def of(indices):
    return {name: float(values[indices].mean()) for name, values in of_cells.items()}

  found = {'random cell': of(np.arange(len(table)))}
  picks = np.random.default_rng(seed).integers(len(table), size=(draws, 50))
  for k in (10, 50):
    best = np.argmax(valid[picks[:, :k]], axis=1)
    found[f'best of {k} by validation'] = of(picks[np.arange(draws), best])
  found['all 3×3'] = of([cells.index(PUBLISHED.replace('skip_connect', 'nor_conv_3x3'))])
  found['most parameters'] = of([int(np.argmax(table.column('parameters_cifar10')))])
  found['published cell of β-DARTS'] = of([cells.index(PUBLISHED)])
  return found

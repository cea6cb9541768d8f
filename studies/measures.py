"""The measures of a study: numbers of one cell, of one search, and of baselines that need no search.

A history is the list of one search's rows in metrics.jsonl, one per epoch.
"""

import itertools
import math

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from beta_darts_jax.spaces.genotype import WITHOUT_WEIGHTS, Genotype
from beta_darts_jax.spaces.nas_bench_201 import DATASETS, NasBench201

COLLAPSED = 3  # a NAS-Bench-201 cell with this many parameter-free edges, or more, counts as collapsed
# the cell that the β-DARTS paper reports for NAS-Bench-201
PUBLISHED = '|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|'
# test accuracies (%) of cells found on CIFAR-10, on the columns TESTS: Ye et al., CVPR 2022; Dong and Yang, ICLR 2020
PUBLISHED_ACCURACIES = {'beta_darts': (94.36, 73.51, 46.34), 'darts': (54.30, 15.61, 16.32)}
TESTS = tuple(f'{dataset}_test' for dataset in DATASETS)


# ---- one cell ----


def percentile(table: NasBench201, cell: Genotype | str) -> float:
  """Returns the share of the other cells that are no better, 0 to 100, mean over the three test columns."""
  ranks = [table.rank(cell, column) for column in TESTS]
  return float(np.mean([100 * (len(table) - rank) / (len(table) - 1) for rank in ranks]))


def parameter_free(cell: Genotype) -> int:
  """Returns the number of edges of the (normal) cell, or layers of a chain, whose operation has no weights."""
  return sum(name in WITHOUT_WEIGHTS for name in cell.main_operations)


def distance(cell: Genotype, other: Genotype) -> int:
  """Returns the number of edges on which two NAS-Bench-201 cells differ."""
  return sum(a != b for a, b in zip(cell.normal.operations, other.normal.operations, strict=True))


# ---- one search ----


def flips(history: list[dict]) -> float | None:
  """Returns how many edges change their operation from one epoch to the next, mean; None for one epoch."""
  cells = [Genotype.parse(row['genotype']) for row in history]
  changes = [distance(before, after) for before, after in itertools.pairwise(cells)]
  return float(np.mean(changes)) if changes else None


def steadiness(history: list[dict]) -> float | None:
  """Returns the median over edges of margin / (standard deviation of the margin's change per epoch).

  The margin is the difference of the two largest β of an edge, here in the last epoch. Edges whose margin changes
  evenly or not at all are left out. None if no edge remains, or for fewer than three epochs.
  """
  if len(history) < 3:
    return None
  top = [[np.sort(beta, axis=-1) for beta in row['betas'].values()] for row in history]  # [E, O] of each cell type
  margins = np.array([np.concatenate([beta[:, -1] - beta[:, -2] for beta in of_epoch]) for of_epoch in top])
  spread = np.std(np.diff(margins, axis=0), axis=0, ddof=1)
  moving = spread > 1e-9
  return float(np.median(margins[-1][moving] / spread[moving])) if moving.any() else None


def measure_names(with_table: bool) -> list[str]:
  """Returns the names of the measures; some need the benchmark's table."""
  of_benchmark = ['percentile', 'final_percentile', *TESTS, 'collapsed', 'flips', 'distance_to_published']
  return ['genotype', 'parameter_free', 'steadiness', *(of_benchmark if with_table else ()), 'epochs', 'seconds']


def measures(history: list[dict], table: NasBench201 | None) -> dict:
  """Returns the measures of one search.

  Accuracies are in percent; `percentile` is the mean over the last 20 % of the epochs. Of a search that diverged only
  genotype (None), epochs and seconds are known.
  """
  text = history[-1]['genotype']
  found = {'genotype': text, 'epochs': len(history), 'seconds': round(sum(row['seconds'] for row in history), 1)}
  if text is None:
    return found
  cell = Genotype.parse(text)
  found |= {'parameter_free': parameter_free(cell), 'steadiness': steadiness(history)}
  if table:
    last = history[-math.ceil(0.2 * len(history)) :]
    found |= {
      'percentile': float(np.mean([percentile(table, row['genotype']) for row in last])),
      'final_percentile': percentile(table, cell),
      'collapsed': int(parameter_free(cell) >= COLLAPSED),
      'flips': flips(history),
      'distance_to_published': distance(cell, Genotype.parse(PUBLISHED)),
      **{column: getattr(table[cell], column) for column in TESTS},
    }
  return found


# ---- baselines ----


def baselines(table: NasBench201, dataset: str, draws: int = 2000) -> pd.DataFrame:
  """Returns mean measures of cells and rules that need no search, one per row.

  "best of k" is the best of k random cells by validation accuracy on `dataset`, mean over `draws`; "most parameters" is
  the first cell of those with the most.
  """
  count, free = len(table), np.array([parameter_free(cell) for cell in table])
  columns = {column: table.column(column) for column in TESTS}
  percentiles = [100 * (count - rankdata(-values, 'min')) / (count - 1) for values in columns.values()]
  cells = pd.DataFrame(
    {'percentile': np.mean(percentiles, axis=0), **columns, 'collapsed': free >= COLLAPSED, 'parameter_free': free},
    index=list(map(str, table)),
  )
  picks = np.random.default_rng(0).integers(count, size=(draws, 50))
  accuracies = table.column(f'{dataset}_valid')[picks]

  def best_of(k):
    return cells.iloc[picks[np.arange(draws), accuracies[:, :k].argmax(axis=1)]]

  chosen = {
    'random cell': cells,
    'best of 10 by validation': best_of(10),
    'best of 50 by validation': best_of(50),
    'all 3×3': cells.loc[[PUBLISHED.replace('skip_connect', 'nor_conv_3x3')]],
    'most parameters': cells.iloc[[table.column('parameters_cifar10').argmax()]],
    'published cell of β-DARTS': cells.loc[[PUBLISHED]],
  }
  return pd.DataFrame({name: rows.mean() for name, rows in chosen.items()}).T

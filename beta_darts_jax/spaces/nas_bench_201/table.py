"""The table of NAS-Bench-201: a CSV with one line for each of the 15,625 cells, which `export.py` writes."""

import csv
import dataclasses
import os
import pathlib
from collections.abc import Iterator

import numpy as np

from beta_darts_jax.errors import InputError
from beta_darts_jax.spaces.genotype import Genotype
from beta_darts_jax.spaces.space import NAS_BENCH_201, SearchSpace

DATASETS = ('cifar10', 'cifar100', 'imagenet16_120')
ACCURACIES = tuple(f'{dataset}_{split}' for dataset in DATASETS for split in ('valid', 'test'))
NUM_CELLS = 5**6
INTEGERS = ('trials', 'parameters_cifar10', 'flops_cifar10')
COLUMNS = ('index', 'arch', *ACCURACIES, *INTEGERS)
HOW_TO_GET = (
  'There is no NAS-Bench-201 table. Export it once from the published files '
  '(python -m beta_darts_jax.spaces.nas_bench_201 export --help) and set NAS_BENCH_201_TABLE to its path.'
)


def covers(space: SearchSpace, dataset: str) -> bool:
  """Returns whether the benchmark has the cells of a search space on a data set."""
  return space == NAS_BENCH_201 and dataset in DATASETS


@dataclasses.dataclass(frozen=True)
class Row:
  """One cell of the benchmark. Accuracies are percentages after 200 epochs, averaged over the trials of the cell."""

  index: int
  cifar10_valid: float
  cifar10_test: float
  cifar100_valid: float
  cifar100_test: float
  imagenet16_120_valid: float
  imagenet16_120_test: float
  trials: int
  parameters_cifar10: int
  flops_cifar10: int


class NasBench201:
  """The whole benchmark. `table[cell]` is a Row; `cell` is a Genotype or an arch string."""

  def __init__(self, rows: dict[str, Row]):
    self._rows = rows
    self._columns = {name: np.array([getattr(row, name) for row in rows.values()]) for name in COLUMNS[2:]}

  @classmethod
  def load(cls, path: str | pathlib.Path) -> 'NasBench201':
    """Reads the CSV.

    Raises:
      InputError: the file is missing or damaged, or it has not exactly the 15,625 cells.
    """
    rows = {}
    try:
      with open(path, newline='', encoding='utf-8') as file:
        for number, line in enumerate(csv.DictReader(file, strict=True), start=2):
          arch, row = _parse_line(line, f'{path}: line {number}')
          rows[arch] = row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
      raise InputError(f'{path}: cannot be read ({error})') from None
    if len(rows) != NUM_CELLS:
      raise InputError(f'{path}: it has {len(rows)} different cells, expected {NUM_CELLS}')
    return cls(rows)

  def __len__(self) -> int:
    return len(self._rows)

  def __iter__(self) -> Iterator[Genotype]:
    return (Genotype.parse(arch) for arch in self._rows)

  def __getitem__(self, cell: Genotype | str) -> Row:
    """Raises InputError if the cell does not belong to NAS-Bench-201."""
    cell = NAS_BENCH_201.parse(cell) if isinstance(cell, str) else NAS_BENCH_201.check(cell)
    return self._rows[str(cell)]

  def at(self, index: int) -> Genotype:
    """Returns the cell that the benchmark numbers `index`. Raises InputError if the table has no such index."""
    for arch, row in self._rows.items():
      if row.index == index:
        return Genotype.parse(arch)
    raise InputError(f'the table has no cell {index}')

  def column(self, name: str) -> np.ndarray:
    """Returns one column for all cells, [15625], in the order of the table. Raises InputError for an unknown name."""
    if name not in self._columns:
      raise InputError(f'column {name!r}: expected one of {", ".join(self._columns)}')
    return self._columns[name].copy()

  def rank(self, cell: Genotype | str, column: str) -> int:
    """Returns the rank of a cell in an accuracy column; 1 is the best. Equal cells share the better rank.

    Raises:
      InputError: unknown column, or a cell of another space.
    """
    return 1 + int((self.column(column) > getattr(self[cell], column)).sum())

  def regret(self, cell: Genotype | str, column: str) -> float:
    """Returns the distance to the best cell of an accuracy column, in percentage points.

    Raises:
      InputError: unknown column, or a cell of another space.
    """
    return float(self.column(column).max() - getattr(self[cell], column))

  def optimum(self, column: str) -> Genotype:
    """Returns the best cell of a column. Raises InputError for an unknown name."""
    return Genotype.parse(list(self._rows)[np.argmax(self.column(column))])

  def summary(self, cell: Genotype | str) -> dict:
    """Returns the Row of a cell as a dict, with its rank and regret in each test column."""
    tests = [f'{dataset}_test' for dataset in DATASETS]
    return (
      dataclasses.asdict(self[cell])
      | {f'{name}_rank': self.rank(cell, name) for name in tests}
      | {f'{name}_regret': round(self.regret(cell, name), 4) for name in tests}
    )

  def baselines(self, dataset: str, draws: int = 2000, seed: int = 0) -> dict[str, float]:
    """Returns test accuracies (%) that a search should be compared with: random cells, random search, simple rules.

    Args:
      dataset: one of DATASETS.
      draws: number of random searches (the best of k cells by validation accuracy) that are averaged.
      seed: seed of these draws.

    Returns:
      {name: accuracy}: random_cell_median, random_cell_mean and random_cell_std of all cells; best_of_10_by_validation
      and best_of_50_by_validation; all_nor_conv_3x3 and most_parameters, single cells; optimum, the best cell.

    Raises:
      InputError: unknown data set.
    """
    if dataset not in DATASETS:
      raise InputError(f'data set {dataset!r}: expected one of {", ".join(DATASETS)}')
    test, valid = self.column(f'{dataset}_test'), self.column(f'{dataset}_valid')
    cells = np.random.default_rng(seed).integers(len(test), size=(draws, 50))
    all_3x3 = NAS_BENCH_201.derive({'cell': np.eye(5)[[3] * 6]})
    return {
      'random_cell_median': float(np.median(test)),
      'random_cell_mean': float(test.mean()),
      'random_cell_std': float(test.std()),
      'best_of_10_by_validation': _best_by_validation(test, valid, cells[:, :10]),
      'best_of_50_by_validation': _best_by_validation(test, valid, cells),
      'all_nor_conv_3x3': getattr(self[all_3x3], f'{dataset}_test'),
      'most_parameters': float(test[np.argmax(self.column('parameters_cifar10'))]),
      'optimum': float(test.max()),
    }


def _best_by_validation(test, valid, cells):
  """Mean test accuracy of the best cell by validation in each row of `cells`, [draws, k]."""
  best = np.argmax(valid[cells], axis=1)
  return float(np.mean(test[cells[np.arange(len(cells)), best]]))


def _parse_line(line, place):
  """Reads one line of the CSV into (arch string, Row)."""
  try:
    arch = str(NAS_BENCH_201.parse(line['arch']))
    accuracies = {name: float(line[name]) for name in ACCURACIES}
    if not all(0 <= accuracy <= 100 for accuracy in accuracies.values()):
      raise ValueError('an accuracy is not in 0 … 100')
    integers = {name: int(line[name]) for name in INTEGERS}
    return arch, Row(index=int(line['index']), **accuracies, **integers)
  except (KeyError, TypeError, ValueError) as error:
    raise InputError(f'{place} is damaged ({error!s}); the columns are {",".join(COLUMNS)}') from None


def find_table(path: str = '') -> NasBench201 | None:
  """Loads the table at `path`, else at NAS_BENCH_201_TABLE; returns None if neither is set. Raises InputError."""
  source = '' if path else ' (set by NAS_BENCH_201_TABLE)'
  path = os.path.expanduser(path or os.environ.get('NAS_BENCH_201_TABLE', ''))
  if not path:
    return None
  if not os.path.exists(path):
    raise InputError(f'NAS-Bench-201 table not found: {os.path.abspath(path)}{source}')
  return NasBench201.load(path)

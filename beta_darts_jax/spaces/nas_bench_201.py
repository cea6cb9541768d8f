"""The tabular benchmark NAS-Bench-201 (Dong & Yang, ICLR 2020): a cell → its published accuracies.

The table is a CSV with a line for each of the 15,625 cells; the project does
not ship it. From the published NATS-Bench files:

  python -m beta_darts_jax.spaces.nas_bench_201 export --natsbench DIR --out table.csv
  python -m beta_darts_jax.spaces.nas_bench_201 query --table table.csv runs/digits-digits-0  # or '|nor_conv_3x3~0|+…'
"""

import argparse
import csv
import dataclasses
import os
import pathlib
import sys
from typing import Any

import numpy as np

from beta_darts_jax.errors import InputError
from beta_darts_jax.spaces.genotype import Genotype
from beta_darts_jax.spaces.lookup import find_genotype
from beta_darts_jax.spaces.space import NAS_BENCH_201, SearchSpace

DATASETS = ('cifar10', 'cifar100', 'imagenet16_120')
ACCURACIES = tuple(f'{dataset}_{split}' for dataset in DATASETS for split in ('valid', 'test'))
NUM_CELLS = 5**6
_INTEGERS = ('trials', 'parameters_cifar10', 'flops_cifar10')
_COLUMNS = ('index', 'arch', *ACCURACIES, *_INTEGERS)
HOW_TO_GET = (
  'no NAS-Bench-201 table: export it once from the published files (python -m beta_darts_jax.spaces.nas_bench_201 '
  'export --help) and set NAS_BENCH_201_TABLE or config.benchmark.table to see what the benchmark says of each cell'
)


def covers(space: SearchSpace, dataset: str) -> bool:
  """Whether the benchmark has the cells of a space on a data set."""
  return space == NAS_BENCH_201 and dataset in DATASETS


@dataclasses.dataclass(frozen=True)
class Row:
  """What the benchmark says of one cell: accuracies in percent after 200 epochs, mean over its trials."""

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
  """All 15,625 cells; `table[genotype]` is a Row, by Genotype or arch string."""

  def __init__(self, rows: dict[str, Row]):
    self._rows = rows
    self._sorted = {name: np.sort(self.column(name)) for name in ACCURACIES}

  @classmethod
  def load(cls, path: str | pathlib.Path) -> 'NasBench201':
    """Reads the CSV.

    Raises:
      InputError: no such file, damaged, or not exactly the 15,625 cells.
    """
    rows = {}
    try:
      with open(path, newline='', encoding='utf-8') as file:
        for number, line in enumerate(csv.DictReader(file, strict=True), start=2):
          try:
            genotype = NAS_BENCH_201.parse(line['arch'])
            values: dict[str, Any] = {n: float(line[n]) for n in ACCURACIES}
            if not all(0 <= values[n] <= 100 for n in ACCURACIES):
              raise ValueError('an accuracy is not in 0 … 100')
            rows[str(genotype)] = Row(index=int(line['index']), **values, **{n: int(line[n]) for n in _INTEGERS})
          except (KeyError, TypeError, ValueError) as error:
            raise InputError(
              f'{path}: line {number} is damaged ({error!s}); columns are {",".join(_COLUMNS)}'
            ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
      raise InputError(f'{path}: cannot be read ({error})') from None
    if len(rows) != NUM_CELLS:
      raise InputError(f'{path}: has {len(rows)} different cells, a NAS-Bench-201 table has {NUM_CELLS}')
    return cls(rows)

  def __len__(self) -> int:
    return len(self._rows)

  def __iter__(self):
    return (Genotype.parse(arch) for arch in self._rows)

  def __getitem__(self, cell: Genotype | str) -> Row:
    """Raises InputError for a cell that is not of NAS-Bench-201."""
    cell = NAS_BENCH_201.parse(cell) if isinstance(cell, str) else NAS_BENCH_201.check(cell)
    return self._rows[str(cell)]

  def column(self, name: str) -> np.ndarray:
    """Values of one column for all cells, [15625], in the table's order. Raises InputError."""
    if name not in _COLUMNS[2:]:
      raise InputError(f'no column {name!r}: allowed are {", ".join(_COLUMNS[2:])}')
    return np.array([getattr(row, name) for row in self._rows.values()])

  def rank(self, cell: Genotype | str, column: str) -> int:
    """1 for the best cell of an accuracy column; cells of equal accuracy share the better rank."""
    values = self._accuracies(column)
    return int(len(values) - np.searchsorted(values, getattr(self[cell], column), side='right')) + 1

  def regret(self, cell: Genotype | str, column: str) -> float:
    """Percentage points below the best cell of an accuracy column."""
    return float(self._accuracies(column)[-1] - getattr(self[cell], column))

  def optimum(self, column: str) -> Genotype:
    """The best cell of an accuracy column."""
    self._accuracies(column)
    return Genotype.parse(max(self._rows, key=lambda arch: getattr(self._rows[arch], column)))

  def _accuracies(self, column):
    if column not in ACCURACIES:
      raise InputError(f'no accuracy {column!r}: allowed are {", ".join(ACCURACIES)}')
    return self._sorted[column]

  def summary(self, cell: Genotype | str) -> dict:
    """A Row as a dict of plain values, with the rank and regret of each test column."""
    tests = [f'{dataset}_test' for dataset in DATASETS]
    return (
      dataclasses.asdict(self[cell])
      | {f'{name}_rank': self.rank(cell, name) for name in tests}
      | {f'{name}_regret': round(self.regret(cell, name), 4) for name in tests}
    )

  def baselines(self, dataset: str, draws: int = 2000, seed: int = 0) -> dict[str, float]:
    """Test accuracies to hold a search against: random cell, best of k by validation, simple rules.

    Args:
      dataset: one of DATASETS.
      draws: repetitions of best-of-k, whose mean is given.
      seed: of those draws.
    """
    if dataset not in DATASETS:
      raise InputError(f'no data set {dataset!r} in the table: allowed are {", ".join(DATASETS)}')
    test, valid = self.column(f'{dataset}_test'), self.column(f'{dataset}_valid')
    picks = np.random.default_rng(seed).integers(len(test), size=(draws, 50))
    best_of = lambda k: float(np.mean(test[picks[np.arange(draws), np.argmax(valid[picks[:, :k]], axis=1)]]))
    all_3x3 = NAS_BENCH_201.derive({'cell': np.eye(5)[[3] * 6]})
    return {
      'random_cell_median': float(np.median(test)),
      'random_cell_mean': float(test.mean()),
      'random_cell_std': float(test.std()),
      'best_of_10_by_validation': best_of(10),
      'best_of_50_by_validation': best_of(50),
      'all_nor_conv_3x3': getattr(self[all_3x3], f'{dataset}_test'),
      'most_parameters': float(test[np.argmax(self.column('parameters_cifar10'))]),
      'optimum': float(test.max()),
    }


def find_table(path: str = '') -> NasBench201 | None:
  """The table at `path`, else at $NAS_BENCH_201_TABLE, else None. Raises InputError."""
  path = path or os.environ.get('NAS_BENCH_201_TABLE', '')
  if path and not os.path.isfile(path):
    how = 'config.benchmark.table, --table or NAS_BENCH_201_TABLE'
    what = 'a folder' if os.path.isdir(path) else 'no such file'
    raise InputError(f'{os.path.abspath(path)}: {what}, which {how} calls the table of NAS-Bench-201')
  return NasBench201.load(path) if path else None


def export(natsbench: pathlib.Path, out: pathlib.Path) -> None:
  """Writes the CSV from the published NATS-Bench topology files (needs the nats_bench package).

  Args:
    natsbench: the folder NATS-tss-v1_0-3ffb9-simple.
    out: the CSV to write.
  """
  if not natsbench.is_dir():
    raise InputError(f'{natsbench}: no such folder; expected the unpacked NATS-tss-v1_0-3ffb9-simple')
  try:
    import nats_bench
  except ImportError:
    raise InputError("the nats_bench package is missing: pip install 'beta-darts-jax[natsbench]'") from None
  try:
    api = nats_bench.create(str(natsbench), 'tss', fast_mode=True, verbose=False)
  except Exception as error:  # assertions and others, by what the folder lacks
    raise InputError(f'{natsbench}: not the unpacked NATS-tss-v1_0-3ffb9-simple ({error})') from None
  temporary = out.with_name(f'.{out.name}.tmp')
  with open(temporary, 'w', newline='', encoding='utf-8') as file:
    writer = csv.DictWriter(file, _COLUMNS)
    writer.writeheader()
    for index in range(len(api)):
      writer.writerow(_exported(api, index))
  os.replace(temporary, out)


def _exported(api, index):
  def mean(dataset, split):
    return api.get_more_info(index, dataset, hp='200', is_random=False)[f'{split}-accuracy']

  row = {'index': index, 'arch': api.arch(index)}
  row['cifar10_valid'], row['cifar10_test'] = mean('cifar10-valid', 'valid'), mean('cifar10', 'test')
  for ours, theirs in (('cifar100', 'cifar100'), ('imagenet16_120', 'ImageNet16-120')):
    row[f'{ours}_valid'], row[f'{ours}_test'] = mean(theirs, 'valid'), mean(theirs, 'test')
  cost = api.get_cost_info(index, 'cifar10', hp='200')
  row['parameters_cifar10'], row['flops_cifar10'] = round(cost['params'] * 1e6), round(cost['flops'] * 1e6)
  row['trials'] = len(api.query_by_index(index, 'cifar10', hp='200'))
  return {n: round(v, 4) if isinstance(v, float) else v for n, v in row.items()}


def main(argv: list[str] | None = None) -> int:
  """The command line; returns the exit status."""
  parser = argparse.ArgumentParser(
    prog='python -m beta_darts_jax.spaces.nas_bench_201', description=__doc__.splitlines()[0]
  )
  commands = parser.add_subparsers(dest='command', required=True)
  command = commands.add_parser('export', help='make the CSV from the published NATS-Bench files')
  command.add_argument('--natsbench', type=pathlib.Path, required=True, help='folder NATS-tss-v1_0-3ffb9-simple')
  command.add_argument('--out', type=pathlib.Path, required=True)
  command = commands.add_parser('query', help='print what the table says of a cell')
  command.add_argument('--table', default='', help='the CSV; default $NAS_BENCH_201_TABLE')
  command.add_argument(
    'cell', help="folder of a run, its genotype.json, or the text '|op~0|+|op~0|op~1|+|op~0|op~1|op~2|'"
  )
  arguments = parser.parse_args(argv)
  try:
    if arguments.command == 'export':
      if not arguments.out.parent.is_dir() or not os.access(arguments.out.parent, os.W_OK):
        raise InputError(f'cannot write {arguments.out}: no such folder, or not writable')
      export(arguments.natsbench, arguments.out)
    else:
      cell = NAS_BENCH_201.check(find_genotype(arguments.cell)[0])
      table = find_table(arguments.table)
      if table is None:
        raise InputError(HOW_TO_GET.replace('config.benchmark.table', 'give --table'))
      for name, value in table.summary(cell).items():
        print(f'{name:28} {value}')
  except InputError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  return 0


if __name__ == '__main__':
  sys.exit(main())

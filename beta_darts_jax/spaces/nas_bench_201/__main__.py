"""The command line of the benchmark: `python -m beta_darts_jax.spaces.nas_bench_201 export|query`."""

import argparse
import pathlib
import sys

from beta_darts_jax.errors import InputError
from beta_darts_jax.spaces.lookup import find_genotype
from beta_darts_jax.spaces.nas_bench_201.export import export
from beta_darts_jax.spaces.nas_bench_201.table import HOW_TO_GET, find_table
from beta_darts_jax.spaces.space import NAS_BENCH_201


def main(arguments: list[str] | None = None, program: str = 'python -m beta_darts_jax.spaces.nas_bench_201') -> int:
  """Runs one command and returns the exit status: 0, or 2 after an error of the user's values.

  `program` is the name of the program for --help.
  """
  options = _parser(program).parse_args(arguments)
  try:
    if options.command == 'export':
      export(options.natsbench, options.out)
    else:
      query(options.table, options.cell)
  except InputError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  return 0


def query(table_path: str, cell: str) -> None:
  """Prints a cell and its row, with ranks among all cells and regrets in percentage points."""
  genotype = NAS_BENCH_201.check(find_genotype(cell, table_path)[0])
  table = find_table(table_path)
  if table is None:
    raise InputError(HOW_TO_GET)
  print(genotype)
  for name, value in table.summary(genotype).items():
    print(f'{name:28} {value}')


def _parser(program):
  parser = argparse.ArgumentParser(
    prog=program,
    description='The tabular benchmark NAS-Bench-201: published accuracies of 15,625 cells.',
  )
  commands = parser.add_subparsers(dest='command', required=True)
  command = commands.add_parser('export', help='write the CSV from the published NATS-Bench files')
  command.add_argument('--natsbench', type=pathlib.Path, required=True, help='folder NATS-tss-v1_0-3ffb9-simple')
  command.add_argument('--out', type=pathlib.Path, required=True, help='the CSV to write')
  command = commands.add_parser(
    'query',
    help='print the row of a cell',
    description='Prints the published accuracies of a cell in %, its ranks among all cells, and its regrets.',
  )
  command.add_argument('--table', default='', help='the CSV; default: $NAS_BENCH_201_TABLE')
  command.add_argument(
    'cell', help="folder of a run, its genotype.json, an index, or the text '|op~0|+|op~0|op~1|+|op~0|op~1|op~2|'"
  )
  return parser


if __name__ == '__main__':
  sys.exit(main())

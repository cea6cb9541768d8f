"""What happens at the end of a run: its page is written, and the command that follows is printed."""

import contextlib
import sys
from collections.abc import Iterator

from beta_darts_jax.command.next_command import has_stem_without_training, next_command
from beta_darts_jax.errors import InputError, NonFiniteLoss, Stopped
from beta_darts_jax.report.page import Path, write
from beta_darts_jax.report.run_folder import read_run_folder
from beta_darts_jax.report.tables import own_operations
from beta_darts_jax.runtime.processes import is_process_zero


def write_if_possible(folder: Path) -> None:
  """Writes the page of a run and prints its path in process 0. A page that cannot be written does not fail the run."""
  if is_process_zero():
    try:
      print(f'report    {write([folder])}')
    except InputError as error:
      print(f'no report: {error}', file=sys.stderr)


@contextlib.contextmanager
def page_of_unfinished_run(folder: Path) -> Iterator[None]:
  """Writes the page of a run that stops or diverges."""
  try:
    yield
  except (NonFiniteLoss, Stopped):
    write_if_possible(folder)
    raise


def finish(folder: Path) -> None:
  """Writes the page of a finished run and prints the command that follows."""
  write_if_possible(folder)
  if not is_process_zero():
    return
  run = read_run_folder(folder)
  if following := next_command(run):
    if run.is_search:
      cell = f'the cell of one member; {folder}/members has the others' if run.is_population else 'this cell'
      print(f'The next command trains {cell}. --config.train.epochs=N makes the training shorter.')
    print(f'next      {following}')
  elif run.is_search and (operations := own_operations(run)):
    names = ', '.join(sorted(operations))
    print(f'To train this cell, use a config file that registers {names}, as configs/own_operation.py does.')
  elif has_stem_without_training(run):
    source = run.config['data']['source']
    print(f'No config of this package has the stem of ImageNet for {source}. Write a config to train this cell.')

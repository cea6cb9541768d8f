"""What the command line asks for besides runs, and the page of each run."""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator

from absl.flags import FlagValues

from beta_darts_jax.config.shipped import PACKAGE
from beta_darts_jax.errors import InputError, NonFiniteLoss, Stopped
from beta_darts_jax.report.page import Path, figures_folder, watch, write
from beta_darts_jax.report.run_folder import read_run_folder
from beta_darts_jax.report.tables import next_command, own_operations
from beta_darts_jax.retrain.export import NEEDS, export
from beta_darts_jax.runtime.processes import is_process_zero
from beta_darts_jax.spaces.nas_bench_201.__main__ import main as nas_bench_201


def run_command(command: str, words: list[str], values: FlagValues) -> int:
  """Runs report, export, study or query; returns the exit status.

  Args:
    command: its name.
    words: its arguments that are not flags; all arguments of `study` and `query`.
    values: the flags.
  """
  if command == 'study':
    return _run_study(words)
  if command == 'query':
    return nas_bench_201(['query', *words], program='beta-darts')
  if command == 'report':
    _write_pages(words, values)
  else:
    folder = export(words[0], values.format, values.out)
    print(f'{folder}\nexample.py needs {NEEDS[values.format]}, and pillow for a picture file')
  return 0


def _write_pages(folders: list[str], values: FlagValues) -> None:
  """Writes a page and prints its path; with --watch again and again until the runs end. See `page.write`."""
  pages = watch(folders, values.out, values.png) if values.watch else iter([write(folders, values.out, values.png)])
  page = next(pages)
  print(f'{page}\n{figures_folder(page)}' if values.png else page, flush=True)
  for _ in pages:
    pass


def _run_study(words: list[str]) -> int:
  """Runs studies.run, which is in a clone only."""
  clone = PACKAGE.parent
  if not (clone / 'studies' / 'run.py').is_file():
    raise InputError(
      'beta-darts study: the package has no studies; expected an installation from a clone, pip install -e .'
    )
  if missing := [name for name in ('pandas', 'tabulate') if importlib.util.find_spec(name) is None]:
    raise InputError(f"beta-darts study needs {', '.join(missing)}: pip install -e '.[studies]'")
  sys.path.insert(0, str(clone))
  sys.argv[0] = 'beta-darts study'  # for its --help
  return importlib.import_module('studies.run').main(words)


# ---- the page of a run ----


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

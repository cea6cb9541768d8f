"""What the command line asks of the pages: `--report`, and the page of each run."""

import contextlib
import sys
from collections.abc import Iterator, Sequence

from beta_darts_jax.errors import InputError, NonFiniteLoss, Stopped
from beta_darts_jax.report.page import Path, figures_folder, watch, write
from beta_darts_jax.runtime.processes import is_process_zero


def run_command(folders: Sequence[Path], out: Path | None, png: bool, watches: bool) -> None:
  """Writes a page and prints its path; if it `watches`, again and again until the runs end. See `page.write`."""
  pages = watch(folders, out, png) if watches else iter([write(folders, out, png)])
  page = next(pages)
  print(f'{page}\n{figures_folder(page)}' if png else page, flush=True)
  for _ in pages:
    pass


def write_if_possible(folder: Path) -> None:
  """Writes the page of a run in process 0. A page that cannot be written does not fail the run."""
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

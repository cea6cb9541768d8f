"""The writing of report.html, of the index of a folder of runs, and of the page of a running run again and again.

A page is one file that loads nothing from elsewhere: its figures are SVG elements. matplotlib and jinja2 are imported
only while a page is written, because a search works without them.
"""

import dataclasses
import importlib.util
import itertools
import os
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from beta_darts_jax.errors import InputError
from beta_darts_jax.report.run_folder import RunFolder, is_run_folder, read_run_folder
from beta_darts_jax.report.tables import compare_runs, differences, texts_of
from beta_darts_jax.runtime.files import write_text
from beta_darts_jax.runtime.workdir import in_use

Path = str | os.PathLike[str]
SECONDS = 10  # between two pages of a running run
DEPTH = 3  # levels of folders in which the index finds runs


def write(paths: Sequence[Path], out: Path | None = None, png: bool = False, refresh: bool = False) -> pathlib.Path:
  """Writes the page of one run, of several runs side by side, or the index of a folder of runs.

  Args:
    paths: run folders, finished or not; or one folder with run folders at most DEPTH levels below it.
    out: the file to write. The default is report.html in the run folder, index.html in a folder of runs; with several
      runs, report.html in the current folder.
    png: also writes each figure of a page of runs as a PNG file into `figures_folder`.
    refresh: the browser loads the page again every SECONDS seconds.

  Returns:
    The path of the page.

  Raises:
    InputError: matplotlib or jinja2 is missing, a path is not a run folder, a file in it is not JSON, or the page
      cannot be written.
  """
  if not all(map(importlib.util.find_spec, ('matplotlib', 'jinja2'))):
    raise InputError("the page needs matplotlib and jinja2: pip install 'beta-darts-jax[report]'")
  from beta_darts_jax.report import sections

  given = [pathlib.Path(os.path.expanduser(path)) for path in paths]
  out = os.path.expanduser(out) if out else None
  is_index = len(given) == 1 and not is_run_folder(given[0]) and bool(_folders(given))
  if is_index:
    page = pathlib.Path(out or given[0] / 'index.html')
    template, values = 'index.html.jinja', _index(given[0], page.parent)
  else:
    runs = [read_run_folder(path) for path in given]
    if len({run.name for run in runs}) < len(runs):
      runs = [dataclasses.replace(run, name=str(run.path)) for run in runs]
    page = pathlib.Path(out or ('report.html' if len(runs) > 1 else runs[0].path / 'report.html'))
    template, values = 'report.html.jinja', _report(runs)
  if page.is_dir():
    raise InputError(f'cannot write {page}: it is a folder')
  text = _render(template, values | {'seconds': SECONDS if refresh else None})
  try:
    if png and not is_index:
      sections.write_png(values['sections'], figures_folder(page))
    write_text(page, text)
  except OSError as error:
    raise InputError(f'cannot write {page}: {error.strerror}') from None
  return page


def watch(paths: Sequence[Path], out: Path | None = None, png: bool = False) -> Iterator[pathlib.Path]:
  """Writes the page every SECONDS seconds while one of its runs is running, and once more; yields its path each time.

  The arguments and errors are those of `write`.
  """
  while any(in_use(folder) for folder in _folders([pathlib.Path(os.path.expanduser(path)) for path in paths])):
    yield write(paths, out, png, refresh=True)
    time.sleep(SECONDS)
  yield write(paths, out, png)


def figures_folder(page: pathlib.Path) -> pathlib.Path:
  """Returns the folder of the PNG files of a page."""
  return page.with_name(f'{page.stem}_figures')


def _folders(paths: Sequence[pathlib.Path]) -> list[pathlib.Path]:
  """Returns the run folders that are given, or that are at most DEPTH levels below a given folder."""
  found = []
  for path in paths:
    levels = range(1 if is_run_folder(path) else DEPTH + 1)
    files = sorted(file for level in levels for file in path.glob('*/' * level + 'config.json'))
    below = [file.parent for file in files if is_run_folder(file.parent)]
    found += [run for run in below if not set(run.parents) & set(below)]  # a run may hold copies of runs
  return found


def _report(runs: list[RunFolder]) -> dict[str, Any]:
  from beta_darts_jax.report.sections import make_sections

  several = len(runs) > 1
  return {
    'title': ', '.join(run.name for run in runs),
    'runs': [texts_of(run) for run in runs],
    'comparison': compare_runs(runs) if several else [],
    'differences': differences(runs) if several else [],
    'sections': make_sections(runs),
  }


def _index(folder: pathlib.Path, origin: pathlib.Path) -> dict[str, Any]:
  """Reads the runs in a folder; a run that cannot be read is named. `origin` is the folder of the page."""
  from beta_darts_jax.report.sections import operation_legend, thumbnails

  runs, cells, damaged = [], [], []
  for path in _folders([folder]):
    try:
      run = dataclasses.replace(read_run_folder(path), name=str(path.relative_to(folder)))
      cells.append(thumbnails(run))
      runs.append(run)
    except InputError as error:
      damaged.append(str(error))
  pages = {run.name: run.path / 'report.html' for run in runs}
  return {
    'title': f'Runs in {folder}',
    'rows': [{'cells': drawn} | _short(row) for drawn, row in zip(cells, compare_runs(runs), strict=True)],
    'links': {name: quote(os.path.relpath(page, origin)) for name, page in pages.items() if page.is_file()},
    'legend': operation_legend(runs),
    'damaged': damaged,
  }


def _short(row: dict[str, Any]) -> dict[str, Any]:
  """Returns the columns that fit on the screen of a laptop."""
  left_out = ('members', 'cifar100 test, %', 'imagenet16_120 test, %', 'regret', 'cost of the cell')
  return {name: value for name, value in row.items() if name not in left_out}


def _render(template: str, values: dict[str, Any]) -> str:
  import jinja2

  from beta_darts_jax.report.sections import to_svg

  environment = jinja2.Environment(
    loader=jinja2.PackageLoader('beta_darts_jax', 'report'), autoescape=True, trim_blocks=True, lstrip_blocks=True
  )
  salts = itertools.count()
  environment.filters['svg'] = lambda figure: to_svg(figure, salt=f'figure {next(salts)}')
  return environment.get_template(template).render(values)

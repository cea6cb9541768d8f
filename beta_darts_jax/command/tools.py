"""The commands that start no run: report, export, study and query."""

import importlib.util
import sys

from absl.flags import FlagValues

from beta_darts_jax import report
from beta_darts_jax.config.shipped import PACKAGE
from beta_darts_jax.errors import InputError
from beta_darts_jax.retrain.export import NEEDS, export
from beta_darts_jax.spaces.nas_bench_201.__main__ import main as nas_bench_201


def run_tool(command: str, words: list[str], values: FlagValues) -> int:
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
    print(f'{folder}\nexample.py needs {NEEDS[values.format]}, and pillow and numpy for a picture file')
  return 0


def _write_pages(folders: list[str], values: FlagValues) -> None:
  """Writes a page and prints its path; with --watch again and again until the runs end. See `report.write`."""
  make_pages = report.watch if values.watch else _write_once
  for index, page in enumerate(make_pages(folders, values.out, values.png)):
    if index == 0:
      figures = report.figures_folder(page)
      print(f'{page}\n{figures}' if values.png and figures.is_dir() else page, flush=True)


def _write_once(folders, out, png):
  yield report.write(folders, out, png)


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

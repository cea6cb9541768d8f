"""The words and tables of report.html, and the writing of the file.

The page is one file that loads nothing from elsewhere: its figures are SVG elements. matplotlib and jinja2 are imported
only while a page is written, because a search works without them.
"""

import dataclasses
import importlib.util
import json
import os
import pathlib
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from flax.traverse_util import flatten_dict

from beta_darts_jax.config import DEFAULTS
from beta_darts_jax.config.schema import BUILT_IN_CHOICES
from beta_darts_jax.data import describe
from beta_darts_jax.errors import InputError
from beta_darts_jax.networks.operations import BUILT_IN
from beta_darts_jax.report.run_folder import RunFolder, read_run_folder
from beta_darts_jax.runtime.workdir import KEPT, write_text
from beta_darts_jax.search.result import three_digits
from beta_darts_jax.spaces.genotype import Genotype
from beta_darts_jax.spaces.nas_bench_201 import DATASETS, NUM_CELLS

Path = str | os.PathLike[str]
Table = list[dict[str, Any]]  # rows with the same columns


def write(paths: Sequence[Path], out: Path | None = None, png: bool = False) -> pathlib.Path:
  """Writes the page of one run, or of several runs side by side.

  Args:
    paths: run folders, finished or not.
    out: the file to write. The default is report.html in the run folder; with several runs, in the current folder.
    png: also writes each figure as a PNG file into `figures_folder`.

  Returns:
    The path of the page.

  Raises:
    InputError: matplotlib or jinja2 is missing, a path is not a run folder, a file in it is not JSON, or the page
      cannot be written.
  """
  if not all(map(importlib.util.find_spec, ('matplotlib', 'jinja2'))):
    raise InputError("the page needs matplotlib and jinja2: pip install 'beta-darts-jax[report]'")
  from beta_darts_jax.report import sections

  runs = [read_run_folder(path) for path in paths]
  if len({run.name for run in runs}) < len(runs):
    runs = [dataclasses.replace(run, name=str(run.path)) for run in runs]
  page = pathlib.Path(out or ('report.html' if len(runs) > 1 else runs[0].path / 'report.html'))
  if page.is_dir():
    raise InputError(f'cannot write {page}: it is a folder')
  drawn = sections.make_sections(runs)
  text = _render(runs, drawn, svg=sections.to_svg)
  try:
    if png:
      sections.write_png(drawn, figures_folder(page))
    write_text(page, text)
  except OSError as error:
    raise InputError(f'cannot write {page}: {error.strerror}') from None
  return page


def figures_folder(page: pathlib.Path) -> pathlib.Path:
  """Returns the folder of the PNG files of a page."""
  return page.with_name(f'{page.stem}_figures')


def _render(runs: list[RunFolder], sections: list, svg: Callable) -> str:
  import jinja2

  environment = jinja2.Environment(
    loader=jinja2.PackageLoader('beta_darts_jax', 'report'), autoescape=True, trim_blocks=True, lstrip_blocks=True
  )
  environment.filters['svg'] = svg
  return environment.get_template('report.html.jinja').render(
    title=', '.join(run.name for run in runs), runs=[_texts(run) for run in runs], sections=sections
  )


# ---- words ----


def _texts(run: RunFolder) -> dict[str, Any]:
  """Returns what the page says about a run, besides the figures."""
  environment = {name: value for name, value in run.environment.items() if name not in KEPT}
  facts = run.environment.get('data')
  return {
    'name': run.name,
    'status': f'{status(run)} Folder: {run.path}',
    'headline': headline(run),
    'genotype': _last_genotype(run),
    'tables': tables(run),
    'repeat': command(run, f'{run.path}-again'),
    'resume': command(run, str(run.path)) if run.result is None and not run.diverged else None,
    'data': describe(facts) if facts else [],
    'environment': ', '.join(f'{name} {value}' for name, value in flatten_dict(environment, sep='.').items()),
    'settings': settings(run.config),
  }


def status(run: RunFolder) -> str:
  """Returns whether the run is finished, running, diverged or interrupted, and after which epoch."""
  if run.result is not None:
    return 'Finished.'
  done = run.rows[-1]['epoch'] + 1 if run.rows else 0
  state = f'Diverged ({run.diverged})' if run.diverged else 'Interrupted'
  if run.is_running:
    state = 'Running,'
  progress = f'after epoch {done}' if done else 'before the end of epoch 1'
  missing = ' The final result is missing.' if done == run.num_epochs else ''
  return f'{state} {progress} of {run.num_epochs}.{missing}'


def command(run: RunFolder, workdir: str) -> str:
  """Returns the shell command that runs the config of `run` in the folder `workdir`."""
  start = f'python -m beta_darts_jax.main --config {shlex.quote(f"configs/again.py:{run.path}")}'
  comment = ''
  if own := _own_parts(run):  # config.json has their names, but not their code
    start = run.environment.get('command') or 'python -m beta_darts_jax.main --config FILE'
    comment = f'  # the config file adds {", ".join(own)}'
  return f'{start} --workdir {shlex.quote(workdir)}{comment}'


def _own_parts(run: RunFolder) -> list[str]:
  """Returns the names of operations, regularizers and other parts in the config that are not built in."""
  if run.is_search:
    operations = set(run.config['space']['operations'])
  else:
    operations = {name for cell in Genotype.parse(run.config['genotype']).cells for name in cell.operations}
  own = operations - BUILT_IN
  values = flatten_dict(run.config, sep='.')
  for name, choices in BUILT_IN_CHOICES.items():
    value = values.get(name, [])
    own |= set(value if isinstance(value, list) else [value]) - choices
  return sorted(own)


def settings(config: dict) -> Table:
  """Returns the values of a config: {name, value, changed}; changed means different from the default."""
  defaults = flatten_dict(json.loads(json.dumps(DEFAULTS[config['task']]().to_dict())), sep='.')  # tuples become lists
  return [
    {'name': f'config.{name}', 'value': value, 'changed': name != 'task' and value != defaults.get(name)}
    for name, value in flatten_dict(config, sep='.').items()
  ]


def _last_genotype(run: RunFolder) -> str | None:
  """Returns the genotype of the result, or of the last epoch so far; None for a population."""
  if run.is_population:
    return None
  last = run.rows[-1] if run.rows else {}
  return (run.result or last).get('genotype')


# ---- numbers ----


def headline(run: RunFolder) -> dict[str, str]:
  """Returns the most important numbers, from the result or from the last epoch so far."""
  result = run.result or {}
  numbers = {'data': run.config['data']['source']}
  if run.is_population:
    numbers['members'] = str(len(run.member_rows))
  else:
    numbers |= _quality((run.rows[-1] if run.rows else {}) | result)
  for phase, seconds in result.get('seconds', {}).items():
    numbers[f'{phase} time'] = f'{seconds:,.0f} s'
  if run.result is None and run.rows:
    rows = next(iter(run.member_rows.values()))  # the members share their seconds
    numbers['time so far'] = f'{sum(row["seconds"] for row in rows):,.0f} s'
  for place, size in result.get('memory', {}).items():
    numbers[f'peak {place} memory'] = f'{size / 2**30:.2f} GiB'
  if run.environment:
    numbers['device'] = f'{run.environment["devices"]} × {run.environment["device"]}'
  return numbers


def _quality(values: dict) -> dict[str, str]:
  """Returns accuracies and sizes from a row or a result."""
  numbers = {}
  for name, label in (('valid_accuracy', 'supernet validation accuracy'), ('test_accuracy', 'test accuracy')):
    if values.get(name) is not None:
      numbers[label] = f'{_percent(values[name])} %'
  if row := values.get('benchmark'):
    for dataset in DATASETS:
      accuracy, rank = row[f'{dataset}_test'], row[f'{dataset}_test_rank']
      numbers[f'benchmark, {dataset} test'] = f'{accuracy:.2f} %, rank {rank:,} of {NUM_CELLS:,}'
  for name in ('parameters', 'multiply_adds'):
    if name in values:
      numbers[name.replace('_', '-')] = f'{values[name]:,}'
  return numbers


def tables(run: RunFolder) -> dict[str, Table]:
  """Returns {title: table} for the members, the baselines, Kendall τ and the retrained cells, as far as they exist."""
  result = run.result or {}
  baselines = {name.replace('_', ' '): f'{accuracy:.2f}' for name, accuracy in result.get('baselines', {}).items()}
  all_tables = {
    'Members': _members(run) if run.is_population else [],
    'Baselines: benchmark test accuracy, %': [baselines] if baselines else [],
    'Kendall τ with the ranking by the benchmark': _kendall(result.get('kendall_tau', {})),
    'Retrained cells': _retrained(result['retrain']) if 'retrain' in result else [],
  }
  return {title: table for title, table in all_tables.items() if table}


def _members(run: RunFolder) -> Table:
  table = []
  for k, rows in run.member_rows.items():
    values: dict[str, Any] = {**rows[-1], **run.member_results.get(k, {})}
    row = {
      'member': k,
      'seed': values.get('seed'),
      'setting': run.setting_text(k),
      'validation accuracy, %': _percent(values.get('valid_accuracy')),
    }
    benchmark = values.get('benchmark')
    row |= {f'{d} test, %': f'{benchmark[f"{d}_test"]:.2f}' if benchmark else '' for d in DATASETS}
    table.append(row | {'cell': values.get('genotype') or 'diverged'})
  empty = {name for name in (table[0] if table else ()) if all(row[name] == '' for row in table)}
  return [{name: value for name, value in row.items() if name not in empty} for row in table]


def _kendall(taus: dict[str, dict]) -> Table:
  table = []
  for name, tau in taus.items():
    value, low, high = (three_digits(tau[name]) for name in ('tau', 'low', 'high'))
    table.append({'ranking by': name.replace('_', ' '), 'τ': value, '95 % interval': f'{low} … {high}', 'n': tau['n']})
  return table


def _retrained(comparison: dict) -> Table:
  cells = [('found', comparison['found']), *(('random', cell) for cell in comparison['random'])]
  return [
    {
      'cell': origin,
      'test accuracy, %': _percent(cell['test_accuracy']),
      'parameters': f'{cell["parameters"]:,}',
      'genotype': cell['genotype'],
    }
    for origin, cell in cells
  ]


def _percent(value: float | None) -> str:
  return '' if value is None else f'{100 * value:.2f}'

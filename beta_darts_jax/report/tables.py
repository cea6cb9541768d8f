"""The words and tables of the page."""

import datetime
import itertools
import json
import re
import shlex
from collections.abc import Sequence
from typing import Any

from flax.traverse_util import flatten_dict

from beta_darts_jax.config import DEFAULTS
from beta_darts_jax.config.schema import BUILT_IN_CHOICES
from beta_darts_jax.data import describe
from beta_darts_jax.networks.operations import BUILT_IN
from beta_darts_jax.report.loggers import BUILT_IN_LOGGERS
from beta_darts_jax.report.run_folder import RunFolder
from beta_darts_jax.report.verdict import benchmark_of, find_collapse, percent, state, verdict
from beta_darts_jax.runtime.workdir import KEPT
from beta_darts_jax.search.cost import describe_cost
from beta_darts_jax.search.population import mean_and_spread
from beta_darts_jax.search.result import three_digits
from beta_darts_jax.spaces import Genotype
from beta_darts_jax.spaces.nas_bench_201 import DATASETS, NUM_CELLS

Table = list[dict[str, Any]]  # rows with the same columns


def texts_of(run: RunFolder) -> dict[str, Any]:
  """Returns what the page says about a run, besides the figures."""
  environment = {name: value for name, value in run.environment.items() if name not in KEPT}
  facts = run.environment.get('data')
  return {
    'name': run.name,
    'path': str(run.path),
    'verdict': verdict(run),
    'warnings': [*run.environment.get('warnings', []), *find_collapse(run)],
    'header': header(run),
    'genotype': _last_genotype(run),
    'tables': tables(run),
    'numbers': numbers(run),
    'repeat': command(run, f'{run.path}-again'),
    'resume': command(run, str(run.path)) if run.result is None and not run.diverged else None,
    'data': describe(facts) if facts else [],
    'environment': ', '.join(f'{name} {value}' for name, value in flatten_dict(environment, sep='.').items()),
    'settings': settings(run.config),
  }


# ---- one run ----


def header(run: RunFolder) -> dict[str, str]:
  """Returns what the run is: its method, data, seed, date, duration and program."""
  kept, seeds = run.environment, len({row.get('seed') for row in run.rows})
  values = {
    'state': state(run),
    'method': run.method,
    'config': run.config['name'],
    'data': run.dataset,
    'seed': f'{run.seed} … {run.seed + seeds - 1}' if seeds > 1 else str(run.seed),
    'members': str(len(run.member_rows)) if run.is_population else '',
    'date': kept.get('started', '')[:16].replace('T', ' '),
    'duration': duration(run.seconds) if run.rows else '',
    'version': kept.get('version', ''),
    'git commit': kept.get('commit', ''),
    'device': f'{kept["devices"]} × {kept["device"]}' if kept else '',
  }
  return {name: value for name, value in values.items() if value}


def duration(seconds: float) -> str:
  """Writes a number of seconds as hours:minutes:seconds."""
  return str(datetime.timedelta(seconds=round(seconds)))


def numbers(run: RunFolder) -> dict[str, str]:
  """Returns accuracies and costs that the verdict does not have."""
  result, values, found = run.result or {}, run.values(), {}
  if not run.is_population:
    if values.get('valid_accuracy') is not None:
      found['accuracy of the supernet (not of the cell) on validation images'] = (
        f'{percent(values["valid_accuracy"])} %'
      )
    if row := values.get('benchmark'):
      for name in DATASETS:
        accuracy, rank = row[f'{name}_test'], row[f'{name}_test_rank']
        found[f'benchmark, {name} test'] = f'{accuracy:.2f} %, rank {rank:,} of {NUM_CELLS:,}'
    if cost := values.get('cost'):
      found['cost of the cell'] = describe_cost(cost)
  for phase, seconds in result.get('seconds', {}).items():
    found[f'{phase} time'] = duration(seconds)
  for place, size in result.get('memory', {}).items():
    found[f'peak {place} memory'] = f'{size / 2**30:.2f} GiB'
  return found


def command(run: RunFolder, workdir: str) -> str:
  """Returns the shell command that runs the config of `run` in the folder `workdir`."""
  start = f'beta-darts {run.config["task"]} --config {shlex.quote(f"again:{run.path}")}'
  comment = ''
  if own := _own_parts(run):  # config.json has their names, but not their code
    given = run.environment.get('command') or f'beta-darts {run.config["task"]} --config FILE'
    start = re.sub(r' --?workdir[= ](\'[^\']*\'|\S+)', '', given)
    comment = f'  # the config file adds {", ".join(own)}'
  return f'{start} --workdir {shlex.quote(workdir)}{comment}'


def own_operations(run: RunFolder) -> set[str]:
  """Returns the names of the operations of the space, or of the cells of a retraining, that are not built in."""
  if run.is_search:
    return set(run.config['space']['operations']) - BUILT_IN
  return {name for cell in Genotype.parse(run.config['genotype']).cells for name in cell.operations} - BUILT_IN


def _own_parts(run: RunFolder) -> list[str]:
  """Returns the names of operations, regularizers and other parts in the config that are not built in."""
  values = flatten_dict(run.config, sep='.')
  own = own_operations(run) | set(values.get('loggers', ())) - BUILT_IN_LOGGERS
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
  return None if run.is_population else run.values().get('genotype')


def tables(run: RunFolder) -> dict[str, Table]:
  """Returns {title: table} for the members, the baselines, Kendall τ and the retrained cells, as far as they exist."""
  result = run.result or {}
  baselines = {name.replace('_', ' '): f'{accuracy:.2f}' for name, accuracy in result.get('baselines', {}).items()}
  all_tables = {
    'Members': _members(run) if run.is_population else [],
    'Baselines: test accuracy in the benchmark, %': [baselines] if baselines else [],
    'Kendall τ with the ranking by the benchmark': _kendall(result.get('kendall_tau', {})),
    'Retrained cells': _retrained(result['retrain']) if 'retrain' in result else [],
  }
  return {title: table for title, table in all_tables.items() if table}


def _members(run: RunFolder) -> Table:
  table = []
  for k in run.member_rows:
    values, benchmark = run.values(k), run.values(k).get('benchmark')
    row = {'member': k, 'seed': values.get('seed'), **run.setting(k)}
    row |= {f'{d} test, %': f'{benchmark[f"{d}_test"]:.2f}' if benchmark else '' for d in DATASETS}
    found = benchmark_of(run, k)
    row |= (
      {'rank': found.rank, 'regret': f'{found.optimum - found.accuracy:.2f}'} if found else {'rank': '', 'regret': ''}
    )
    row['supernet validation, %'] = percent(values.get('valid_accuracy'))
    row['cost of the cell'] = describe_cost(values['cost']) if 'cost' in values else ''
    table.append(row | {'cell': values.get('genotype') or 'diverged'})
  return _without_empty_columns(table)


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
      'test accuracy, %': percent(cell['test_accuracy']),
      'parameters': f'{cell["parameters"]:,}',
      'genotype': cell['genotype'],
    }
    for origin, cell in cells
  ]


def _without_empty_columns(table: Table) -> Table:
  empty = {name for name in (table[0] if table else ()) if all(row[name] in ('', None) for row in table)}
  return [{name: value for name, value in row.items() if name not in empty} for row in table]


# ---- several runs ----


def compare_runs(runs: Sequence[RunFolder]) -> Table:
  """Returns one row per run; of a population, the row has mean ± standard deviation over the members."""
  return _without_empty_columns([_summary(run) for run in runs])


def _summary(run: RunFolder) -> dict[str, Any]:
  members, facts = list(run.member_rows) or [0], header(run)
  benchmarks = [benchmark for k in members if (benchmark := benchmark_of(run, k))]
  rows = [row for k in members if (row := run.values(k).get('benchmark'))]
  retrained = (run.result or {}).get('retrain', {}).get('found', {})
  tested = run.values().get('test_accuracy', retrained.get('test_accuracy'))
  supernets = [a for k in members if (a := run.values(k).get('valid_accuracy')) is not None]
  return {
    'run': run.name,
    **{name: facts.get(name, '') for name in ('state', 'method', 'data', 'seed', 'members')},
    **{f'{d} test, %': _mean([row[f'{d}_test'] for row in rows], '.2f') for d in DATASETS},
    'rank': _mean([b.rank for b in benchmarks], '.0f'),
    'regret': _mean([b.optimum - b.accuracy for b in benchmarks], '.2f'),
    'trained cell, test %': percent(tested),
    'supernet validation, %': _mean([100 * a for a in supernets], '.2f'),
    'cost of the cell': describe_cost(run.values()['cost']) if not run.is_population and 'cost' in run.values() else '',
    'seconds': f'{run.seconds:.0f}' if run.rows else '',
    'date': facts.get('date', ''),
  }


def _mean(values: Sequence[float], form: str) -> str:
  """Writes the mean of the members, with the standard deviation if there are several."""
  parts = mean_and_spread(values)
  return ' ± '.join(format(parts[name], form) for name in ('mean', 'std') if parts[name] is not None)


def differences(runs: Sequence[RunFolder]) -> Table:
  """Returns a row for each value of the configs in which runs differ that have it; '' where a run does not have it."""
  configs = {run.name: flatten_dict(run.config, sep='.') for run in runs}
  table = []
  for name in dict.fromkeys(itertools.chain(*configs.values())):
    values = {run: str(config[name]) for run, config in configs.items() if name in config}
    if len(set(values.values())) > 1:
      table.append({'config.': name} | {run: values.get(run, '') for run in configs})
  return table

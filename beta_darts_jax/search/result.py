"""The result of a search: what result.json holds, and what is printed."""

import dataclasses
import pathlib
from typing import Any

from beta_darts_jax.retrain.comparison import describe_accuracy
from beta_darts_jax.retrain.result import describe_end
from beta_darts_jax.runtime.environment import environment, peak_memory
from beta_darts_jax.runtime.files import write_json
from beta_darts_jax.runtime.processes import is_process_zero
from beta_darts_jax.runtime.workdir import Workdir
from beta_darts_jax.search.cells import SelectedCell
from beta_darts_jax.search.cost import describe_cost
from beta_darts_jax.search.population import setting_of, summarize_settings
from beta_darts_jax.search.setup import SearchSetup
from beta_darts_jax.spaces.genotype import Genotype
from beta_darts_jax.spaces.nas_bench_201 import NUM_CELLS, NasBench201


@dataclasses.dataclass(frozen=True)
class SearchResult:
  """A finished search.

  Attributes:
    path: the folder of the run.
    values: what its result.json holds.
  """

  path: pathlib.Path
  values: dict

  @property
  def genotypes(self) -> list[Genotype | None]:
    """The cell of each member, None where it diverged; a single search has one member."""
    texts = [member['genotype'] for member in self.values.get('members', [self.values])]
    return [Genotype.parse(text) if text else None for text in texts]

  @property
  def genotype(self) -> Genotype | None:
    """The cell of a single search, or of the first member of a population."""
    return self.genotypes[0]

  def __str__(self) -> str:
    describe = _describe_population if 'members' in self.values else _describe_single
    return '\n'.join([*describe(self.values), describe_end(self.path, self.values)])


def summarize(
  setup: SearchSetup,
  table: NasBench201 | None,
  cells: list[SelectedCell],
  kendall_taus: list[dict | None],
  comparison: dict | None,
  seconds: dict[str, float],
) -> dict[str, Any]:
  """Returns what result.json holds.

  A single search has genotype, epoch, accuracies, benchmark and so on at the top. A population has them for each of
  `members`, and `settings` with mean and spread over seeds.

  Args:
    setup: the setup of the search.
    table: the benchmark of the space and the data set, or None.
    cells: the cells of the members.
    kendall_taus: what rows.kendall_tau returned for each member, or None.
    comparison: from retrain.comparison.compare, or None.
    seconds: by phase.
  """
  results = []
  for k, (member, cell, taus) in enumerate(zip(setup.members, cells, kendall_taus, strict=True)):
    result = {'member': k, **member.to_json()} if setup.is_population else {}
    result |= _summarize_cell(cell, setup, table)
    results.append(result | ({'kendall_tau': taus} if taus else {}))
  values: dict[str, Any]
  if setup.is_population:
    values = {'members': results, 'settings': summarize_settings(results)}
  else:
    (values,) = results
  values['dataset'] = setup.dataset_name
  if table:
    values['baselines'] = table.baselines(setup.dataset_name)
  if comparison:
    values['retrain'] = comparison
  values['seconds'] = {name: round(value, 2) for name, value in seconds.items()}
  values['memory'] = peak_memory()
  values['environment'] = environment(setup.mesh)
  return values


def _summarize_cell(cell: SelectedCell, setup: SearchSetup, table):
  result: dict[str, Any] = {
    'genotype': str(cell.genotype) if cell.genotype else None,
    'epoch': cell.row['epoch'],
    'stopped_early': cell.stopped_early,
    'derivation': setup.selection.method,
    'train_accuracy': cell.row['train_accuracy'] if cell.genotype else None,
    'valid_accuracy': cell.row['valid_accuracy'] if cell.genotype else None,
  }
  if table and cell.genotype:
    result['benchmark'] = table.summary(cell.genotype)
  if setup.costs and cell.genotype and 'cost' in cell.row:
    result['cost'] = cell.row['cost'] | {'derived': setup.costs.derived(setup.space, cell.genotype)}
  return result


def write_genotypes(setup: SearchSetup, workdir: Workdir, cells: list[SelectedCell]) -> None:
  """Writes genotype.json, or members/K/genotype.json of a population, as spaces.lookup reads it."""
  if not is_process_zero():
    return
  for k, cell in enumerate(cells):
    if cell.genotype:
      folder = workdir.path / 'members' / str(k) if setup.is_population else workdir.path
      folder.mkdir(parents=True, exist_ok=True)
      write_json(folder / 'genotype.json', {'space': setup.space_options, 'genotype': str(cell.genotype)})


# ---- text ----


def _describe_single(values) -> list[str]:
  lines = [f'cell      {values["genotype"]}']
  if values['stopped_early']:
    lines.append(f'stopped   early: the cell of epoch {values["epoch"] + 1}')
  if cost := values.get('cost'):
    lines.append(f'cost      {describe_cost(cost)}')
  if benchmark := values.get('benchmark'):
    dataset = values['dataset']
    test, rank, valid = (benchmark[f'{dataset}_{name}'] for name in ('test', 'test_rank', 'valid'))
    lines.append(f'benchmark {dataset} test {test:.2f} %, rank {rank} of {NUM_CELLS:,}, valid {valid:.2f} %')
    lines.append(_describe_baselines(values['baselines']))
  if not {'benchmark', 'retrain'} & values.keys() and values['genotype']:
    lines.append(
      f'supernet  validation accuracy {100 * values["valid_accuracy"]:.2f} %; the accuracy of the cell is unknown'
    )
  for name, tau in values.get('kendall_tau', {}).items():
    value, low, high = (three_digits(tau[name]) for name in ('tau', 'low', 'high'))
    lines.append(f'kendall   {name.replace("_", " ")} τ {value} (95 %: {low} … {high}, n {tau["n"]})')
  if retrained := values.get('retrain'):
    lines.append(_describe_trained('found', retrained['found'] | {'genotype': 'the cell above'}))
    lines += [_describe_trained('random', cell) for cell in retrained['random']]
  return lines


def three_digits(value: float | None) -> str:
  return '-' if value is None else f'{value:.3f}'


def _describe_trained(label, cell):
  return f'retrained {label:6} {describe_accuracy(cell)} ({cell["parameters"]:,} parameters)  {cell["genotype"]}'


def _describe_baselines(baselines) -> str:
  """Accuracies (percent) to compare a search with."""
  return 'baselines ' + ', '.join(f'{name.replace("_", " ")} {value:.2f}' for name, value in baselines.items())


def _describe_population(values) -> list[str]:
  lines = []
  for member in values['members']:
    parts = [f'member {member["member"]}', f'seed {member["seed"]}', _describe_setting(member)]
    if benchmark := member.get('benchmark'):
      name = f'{values["dataset"]}_test'
      parts.append(f'{benchmark[name]:.2f} % rank {benchmark[f"{name}_rank"]:>5}')
    parts += [f'cost {describe_cost(member["cost"])}'] if 'cost' in member else []
    lines.append('  '.join([part for part in parts if part] + [member['genotype'] or 'diverged']))
  lines += [_describe_statistics(setting, values['dataset']) for setting in values['settings']]
  if 'baselines' in values:
    lines.append(_describe_baselines(values['baselines']))
  return lines


def _describe_setting(member):
  names = ('genotypes', 'diverged')  # of a setting
  varied = {name: value for name, value in setting_of(member).items() if name not in names}
  return ' '.join(f'{name}={value:g}' for name, value in varied.items())


def _describe_statistics(setting, dataset):
  accuracy = setting['valid_accuracy']
  parts = [
    f'valid accuracy of the supernet {_mean_and_std(accuracy, 100)} %',
    f'{setting["genotypes"]} different cell{"s" * (setting["genotypes"] != 1)}',
  ]
  if benchmark := setting.get('benchmark'):
    parts.append(f'benchmark test {_mean_and_std(benchmark[f"{dataset}_test"])} %')
    parts.append(f'rank {_mean_and_std(benchmark[f"{dataset}_test_rank"])}')
  if setting['diverged']:
    parts.append(f'{setting["diverged"]} diverged')
  return f'{_describe_setting(setting) or "all"}  n={accuracy["n"]}: {", ".join(parts)}'


def _mean_and_std(value, scale=1.0):
  if value['mean'] is None:
    return '-'
  return f'{scale * value["mean"]:.2f}' + ('' if value['std'] is None else f' ± {scale * value["std"]:.2f}')

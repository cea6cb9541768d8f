"""The first line of the page: how good the found cell is."""

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from beta_darts_jax.report.run_folder import RunFolder
from beta_darts_jax.search.population import mean_and_spread
from beta_darts_jax.spaces.genotype import WITHOUT_WEIGHTS, Genotype
from beta_darts_jax.spaces.nas_bench_201 import DATASETS, NUM_CELLS


class Verdict(NamedTuple):
  """What a run found, and what its numbers are."""

  text: str
  basis: str = ''


class Benchmark(NamedTuple):
  """What NAS-Bench-201 gives for a cell on the data set of the run. Accuracies are percentages."""

  accuracy: float
  rank: int
  optimum: float  # of the best cell


def benchmark_of(run: RunFolder, member: int = 0) -> Benchmark | None:
  """Returns the numbers of the benchmark for the cell of a member; None without a table."""
  row = run.values(member).get('benchmark')
  if not row:
    return None
  dataset = run.dataset if run.dataset in DATASETS else DATASETS[0]
  accuracy, rank, regret = (row[f'{dataset}_test{name}'] for name in ('', '_rank', '_regret'))
  return Benchmark(accuracy, rank, accuracy + regret)


def verdict(run: RunFolder) -> Verdict:
  """Returns the verdict on a run: with or without a table, finished or not."""
  quality = _quality(run)
  if run.result is not None:
    return quality
  if not quality.basis:
    return Verdict(_progress(run))
  return Verdict(f'{_progress(run)} So far: {quality.text}', quality.basis)


def _quality(run: RunFolder) -> Verdict:
  if not run.is_search:
    return _trained(run)
  if run.is_population:
    return _population(run)
  if benchmark := benchmark_of(run):
    basis = f'Test accuracy on {run.dataset} that NAS-Bench-201 gives for the found cell.'
    return Verdict(_with_table(benchmark, (run.result or {}).get('baselines', {})), basis)
  if retrained := (run.result or {}).get('retrain'):
    epochs = run.config['retrain']['epochs']
    basis = f'Test accuracies on {run.dataset} after the same training of {epochs} epochs.'
    return Verdict(_with_random_cells(retrained), basis + _worth_of_an_image(run))
  return Verdict('The accuracy of the found cell is not known: no table has it, and the run did not train it.')


def _with_table(benchmark: Benchmark, baselines: dict[str, float]) -> str:
  accuracy, rank, optimum = benchmark
  top = f' (top {max(100 * rank / NUM_CELLS, 0.01):.2f} %)' if 2 * rank < NUM_CELLS else ''
  parts = [f'{accuracy:.2f} %', f'rank {rank:,} of {NUM_CELLS:,}{top}']
  if best := baselines.get('best_of_50_by_validation'):
    parts.append(f'{"above" if accuracy > best else "not above"} best-of-50 ({best:.2f})')
  parts.append(f'optimum {optimum:.2f}' if optimum > accuracy else 'the optimum')
  return ', '.join(parts)


def _with_random_cells(retrained: dict[str, Any]) -> str:
  found = retrained['found']['test_accuracy']
  others = [cell['test_accuracy'] for cell in retrained['random'] if cell['test_accuracy'] is not None]
  if found is None:
    return 'The training of the found cell diverged.'
  text = f'{percent(found)} % after retraining'
  if not others:
    return text
  lower = sum(other < found for other in others)
  if len(others) == 1:
    return f'{text}, {"above" if lower else "not above"} the random cell ({percent(others[0])} %)'
  amount = 'all' if lower == len(others) else f'{lower} of'
  return f'{text}, above {amount} {len(others)} random cells ({percent(min(others))} … {percent(max(others))} %)'


def _trained(run: RunFolder) -> Verdict:
  values = run.values()
  if values.get('test_accuracy') is None:
    return Verdict('')
  parts = [f'{percent(values["test_accuracy"])} % test accuracy']
  if (values.get('test_top5_accuracy') or 1) < 1:  # it is 1 with five classes or fewer
    parts.append(f'top-5 {percent(values["test_top5_accuracy"])} %')
  parts += [f'{values[name]:,} {name.replace("_", "-")}' for name in ('parameters', 'multiply_adds') if name in values]
  return Verdict(
    ', '.join(parts), f'Accuracy of the last epoch on all test images of {run.dataset}.{_worth_of_an_image(run)}'
  )


def _worth_of_an_image(run: RunFolder) -> str:
  images = run.environment.get('data', {}).get('test', {}).get('images')
  return f' Each of the {images:,} test images counts {100 / images:.2g} points.' if images else ''


def _population(run: RunFolder) -> Verdict:
  groups: dict[str, list[float]] = {}
  benchmarks = {k: benchmark_of(run, k) for k in run.member_rows}
  for k, benchmark in benchmarks.items():
    if benchmark:
      groups.setdefault(run.setting_text(k), []).append(benchmark.accuracy)
  if not groups:
    return Verdict(f'{len(benchmarks)} searches. The accuracy of their cells is not known: no table has it.')
  ranked = sorted(groups, key=lambda setting: statistics.fmean(groups[setting]))
  worst, best = ranked[0], ranked[-1]
  text = mean_and_std(groups[best])
  if len(groups) > 1:
    text += f' with {best}, the best of {len(groups)} settings; {mean_and_std(groups[worst])} with {worst}'
  if best_of_50 := (run.result or {}).get('baselines', {}).get('best_of_50_by_validation'):
    is_above = statistics.fmean(groups[best]) > best_of_50
    text += f'; {"above" if is_above else "not above"} best-of-50 ({best_of_50:.2f})'
  optimum = next(benchmark for benchmark in benchmarks.values() if benchmark).optimum
  basis = f'Mean ± standard deviation over seeds of the test accuracy on {run.dataset} that NAS-Bench-201 gives.'
  return Verdict(f'{text}; optimum {optimum:.2f}', basis)


def find_collapse(run: RunFolder) -> list[str]:
  """Returns a warning if most operations of a found (normal) cell or chain, or of those of members, have no weights."""
  texts = [text for k in run.member_rows if (text := run.values(k).get('genotype'))]
  cells = [Genotype.parse(text).main_operations for text in texts] if run.is_search and run.result else []
  without = [sum(name in WITHOUT_WEIGHTS for name in cell) for cell in cells]
  collapsed = [2 * free > len(cell) for free, cell in zip(without, cells, strict=True)]
  if not any(collapsed):
    return []
  if run.is_population:
    return [f'in {sum(collapsed)} of {len(cells)} cells most operations have no weights.']
  return [f'most operations of the cell have no weights: {without[0]} of {len(cells[0])}.']


def state(run: RunFolder) -> str:
  """Returns whether the run is finished, running, diverged or interrupted, in one word."""
  if run.result is not None:
    return 'Finished'
  if run.is_running:
    return 'Running'
  return 'Diverged' if run.diverged else 'Interrupted'


def _progress(run: RunFolder) -> str:
  """Returns the state of an unfinished run, and after which epoch."""
  done = run.rows[-1]['epoch'] + 1 if run.rows else 0
  begin = {'Running': 'Running,', 'Diverged': f'Diverged ({run.diverged})'}.get(state(run), state(run))
  progress = f'after epoch {done}' if done else 'before the end of epoch 1'
  missing = ' The final result is missing.' if done == run.num_epochs and not run.is_running else ''
  return f'{begin} {progress} of {run.num_epochs}.{missing}'


def percent(value: float | None) -> str:
  """Writes a share as a percentage; '' for None."""
  return '' if value is None else f'{100 * value:.2f}'


def mean_and_std(values: Sequence[float]) -> str:
  """Writes the mean, the standard deviation of the sample and the number of percentages."""
  spread = mean_and_spread(values)
  std = '' if spread['std'] is None else f' ± {spread["std"]:.2f}'
  return f'{spread["mean"]:.2f}{std} % (n = {spread["n"]})'

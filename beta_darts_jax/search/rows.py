"""The rows of metrics.jsonl that a search writes after each epoch."""

import functools
import math
import statistics

import numpy as np

from beta_darts_jax.method import diagnostics
from beta_darts_jax.method.state import SearchState
from beta_darts_jax.runtime.logs import Diagnostics, Row
from beta_darts_jax.search.programs import SearchPrograms
from beta_darts_jax.search.setup import SearchSetup
from beta_darts_jax.spaces.nas_bench_201 import NasBench201


def epoch_rows(
  setup: SearchSetup,
  programs: SearchPrograms,
  states: SearchState,
  table: NasBench201 | None,
  epoch: int,
  finite: np.ndarray,
) -> list[Row]:
  """Returns the row of each member, without the training metrics and the times.

  Args:
    setup: the setup of the search.
    programs: its programs.
    states: the states of all members.
    table: the benchmark of the space and the data set, or None.
    epoch: from 0.
    finite: bool [M], whether the state of each member is finite.
  """
  losses, accuracies, _ = programs.evaluate(states, epoch)
  finite = finite & np.isfinite(losses)
  betas, strengths = programs.mean_betas(states), programs.strengths(states)
  betas_without_edge_weights = programs.mean_of_operations(states) if setup.costs else {}
  rows = []
  for k, member in enumerate(setup.members):
    beta = _of_member(betas, k)
    has_cell = finite[k] and all(np.isfinite(value).all() for value in beta.values())
    genotype = setup.space.derive(_of_member(strengths, k)) if has_cell else None
    hyper = setup.hyperparameters(member, epoch)
    row: Row = {'member': k, 'seed': member.seed} if setup.is_population else {}
    row |= {
      'valid_loss': float(losses[k]),
      'valid_accuracy': float(accuracies[k]) if genotype else math.nan,
      'beta_decay_weight': hyper.beta_decay_weight,
      'learning_rate': hyper.learning_rate,
      'genotype': str(genotype) if genotype else None,
      'skips': diagnostics.num_skips(genotype) if genotype else None,
      'betas': _to_lists(beta) if genotype else None,
    }
    if genotype:
      row['diagnostics'] = _diagnose(
        setup, programs, states, table, epoch=epoch, member=k, beta=beta, genotype=genotype
      )
      if table:
        row['benchmark'] = table.summary(genotype)
      if setup.costs:
        row['cost'] = setup.costs.of_cell(setup.space, genotype, _of_member(betas_without_edge_weights, k))
    if hyper.regularizer_weights:
      row['regularizer_weights'] = dict(hyper.regularizer_weights)
    rows.append(row)
  return rows


def describe_cells(setup: SearchSetup, rows: list[Row], epoch: int, before: list[Row]) -> str:
  """Returns what is printed about the cells of an epoch: `describe_cell`, or the means of a population.

  `before` are the rows of the epochs before.
  """
  if not setup.is_population:
    return describe_cell(setup, rows[0], epoch, before)
  found = [row for row in rows if row['genotype']]
  if not found:
    return ''
  parts = []
  if all('benchmark' in row for row in found):
    accuracies = [row['benchmark'][f'{setup.dataset_name}_test'] for row in found]
    parts.append(f'cells {statistics.fmean(accuracies):.2f} % ({min(accuracies):.2f} … {max(accuracies):.2f})')
  return '  '.join([*parts, f'skips {statistics.fmean(row["skips"] or 0 for row in found):.1f}'])


def describe_cell(setup: SearchSetup, row: Row, epoch: int, before: list[Row]) -> str:
  """Returns what is printed about the cell of one search. A second line has the cell if it has changed."""
  genotype, previous = row['genotype'], before[-1]['genotype'] if before else None
  parts = []
  if benchmark := row.get('benchmark'):
    name = f'{setup.dataset_name}_test'
    parts.append(f'cell {benchmark[name]:.2f} % rank {benchmark[f"{name}_rank"]}')
  if genotype:
    parts.append(f'skips {row["skips"]}')
  if setup.parts.regularizers:
    hyper = setup.hyperparameters(setup.members[0], epoch)
    weights = {one.weight.removesuffix('_weight'): hyper.weight_of(one.weight) for one in setup.parts.regularizers}
    shows_names = len(weights) > 1
    texts = [f'{name} {value:.3g}' if shows_names else f'{value:.3g}' for name, value in weights.items()]
    parts.append('λ ' + ', '.join(texts))
  return '  '.join(parts) + (f'\n  {genotype}' if genotype not in (None, previous) else '')


def _of_member(tree: dict[str, np.ndarray], member: int) -> dict[str, np.ndarray]:
  """Returns the arrays {cell type: [E, O]} of one member from {cell type: [M, E, O]}."""
  return {cell_type: values[member] for cell_type, values in tree.items()}


def _diagnose(setup, programs, states, table, *, epoch, member, beta, genotype) -> Diagnostics:
  """The cheap diagnostics, and the expensive ones every `every_epochs` epochs."""
  measurements = setup.measurements
  measured: Diagnostics = {
    'shares': diagnostics.operation_shares(genotype),
    'entropies': _to_lists(diagnostics.entropies(beta)),
    'variances': _to_lists(diagnostics.variances(beta)),
  }
  every = measurements.every_epochs
  if every and (epoch + 1) % every == 0:
    one_shot = functools.partial(programs.one_shot, states, member)
    (continuous,) = one_shot([beta], measurements.images, epoch)
    (discrete,) = one_shot([setup.space.one_hot(genotype)], measurements.images)
    measured |= {'continuous_accuracy': float(continuous), 'discrete_accuracy': float(discrete)}
    measured |= programs.diagnose(states, member, epoch)
    tau = kendall_tau(setup, programs, states, table, measurements.kendall_cells, member)
    measured |= {'kendall_tau': tau} if tau else {}
  return measured


def kendall_tau(setup, programs, states, table, num_cells: int, member: int) -> dict | None:
  """Returns diagnostics.ranking_correlation of a member's one-shot accuracies; None without a table or cells."""
  if not (table and num_cells):
    return None

  def accuracy_of(genotypes):
    betas = [setup.space.one_hot(genotype) for genotype in genotypes]
    return programs.one_shot(states, member, betas, setup.measurements.kendall_images)

  return diagnostics.ranking_correlation(table, setup.dataset_name, accuracy_of, num_cells)


def _to_lists(tree):
  return {name: value.tolist() for name, value in tree.items()}

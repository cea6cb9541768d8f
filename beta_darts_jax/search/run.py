"""Searches, one or a population of them, from a config to genotypes: epochs, diagnostics, derivation, logs."""

import dataclasses
import functools
import math
import threading
from typing import Any

import numpy as np

from beta_darts_jax.config.check import step_range
from beta_darts_jax.data.dataset import Dataset
from beta_darts_jax.errors import NonFiniteLoss
from beta_darts_jax.method import diagnostics
from beta_darts_jax.method import selection as derivation
from beta_darts_jax.method.state import SearchState
from beta_darts_jax.runtime.loop import next_stop, run_epochs
from beta_darts_jax.runtime.processes import any_process, is_process_zero
from beta_darts_jax.runtime.workdir import Workdir, environment, peak_memory, write_json
from beta_darts_jax.search import population
from beta_darts_jax.search.programs import (
  Programs,
  alpha_reach,
  build,
  hyperparameters,
  is_population,
  members_of,
  mesh_of,
  settings_of,
  space_of,
)
from beta_darts_jax.spaces.genotype import Genotype
from beta_darts_jax.spaces.nas_bench_201 import DATASETS, NasBench201


@dataclasses.dataclass
class Outcome:
  """A search that came to its end: its programs, its last states, the rows of metrics.jsonl."""

  programs: Programs
  states: SearchState
  rows: list[dict]


def run(config, dataset: Dataset, table: NasBench201 | None, workdir: Workdir, stop: threading.Event) -> Outcome | None:
  """Searches, or goes on where an interrupted run of the same config stopped.

  Args:
    config: checked, as from `validation.check`.
    dataset: what to search on.
    table: the benchmark of the space, used when it knows the data set; or None.
    workdir: opened for this config.
    stop: when set, the states are saved after the steps under way and None is returned.

  Returns:
    What `derive` takes; None when stopped.

  Raises:
    NonFiniteLoss: of all members, and the last good checkpoint stays.
  """
  search, space, members = config.search, space_of(config), members_of(config)
  table = table if dataset.name in DATASETS else None
  mesh = mesh_of(config)
  if changes := workdir.environment_changes(environment(mesh)):
    print(f'this run began elsewhere, so its last bits may come out differently: {"; ".join(changes)}', flush=True)
  programs = build(config, dataset, mesh)
  if (reach := alpha_reach(config, programs.steps_per_epoch)) < 0.5:
    print(
      f'α comes no further than {reach:.2g} in this run (rate × steps), which hardly moves β: '
      'see "Your own data" in the README'
    )

  def cell_of(betas, k):
    beta = {cell_type: value[k] for cell_type, value in betas.items()}
    return beta, space.derive(beta) if all(np.isfinite(value).all() for value in beta.values()) else None

  def diagnosed(states, epoch, k, beta, genotype):
    found = {'shares': diagnostics.shares(genotype)}
    for name, of_edges in (('entropies', diagnostics.entropies), ('variances', diagnostics.variances)):
      found[name] = {cell_type: values.tolist() for cell_type, values in of_edges(beta).items()}
    every = config.diagnostics.every_epochs
    if every and (epoch + 1) % every == 0:
      accuracies = functools.partial(programs.one_shot, states, k)
      (continuous,) = accuracies([beta], config.diagnostics.images, epoch)
      (discrete,) = accuracies([space.one_hot(genotype)], config.diagnostics.images)
      found |= {'continuous_accuracy': float(continuous), 'discrete_accuracy': float(discrete)}
      found |= programs.diagnose(states, k, epoch)
      if table and config.diagnostics.kendall_cells:
        found['kendall_tau'] = _kendall(config, dataset, table, space, accuracies, config.diagnostics.kendall_cells)
    return found

  def rows_of(states, epoch, finite):
    losses, accuracies, _ = programs.evaluate(states, epoch)
    finite = finite & np.isfinite(losses)
    betas = programs.betas(states)
    for k, member in enumerate(members):
      hyper = hyperparameters(settings_of(config, member), epoch)
      beta, genotype = cell_of(betas, k)
      genotype = genotype if finite[k] else None
      row = {'member': k, 'seed': member['seed']} if is_population(config) else {}
      row |= {
        'valid_loss': float(losses[k]),
        'valid_accuracy': float(accuracies[k]) if genotype else math.nan,
        'beta_decay_weight': hyper.beta_decay_weight,
        'learning_rate': hyper.learning_rate,
        'genotype': genotype and str(genotype),
        'skips': genotype and diagnostics.skips(genotype),
        'betas': {cell_type: value.tolist() for cell_type, value in beta.items()} if genotype else None,
      }
      if genotype:
        row['diagnostics'] = diagnosed(states, epoch, k, beta, genotype)
      yield row | ({'benchmark': table.summary(genotype)} if table and genotype else {})

  done = run_epochs(
    programs.states,
    programs.train,
    rows_of,
    workdir,
    stop,
    epochs=search.epochs,
    steps_per_epoch=programs.steps_per_epoch,
    steps_per_dispatch=search.steps_per_dispatch,
    images_per_step=2 * search.batch_size,
    checkpoint_every=config.checkpoint.every_steps,
    tensorboard=config.tensorboard,
    profile=step_range(config.profile),
    finished=lambda rows: all(_has_ended(config, rows[k :: len(members)]) for k in range(len(members))),
  )
  return done and Outcome(programs, *done)


def _stopped(config, history):
  """The epoch whose cell is kept by early stopping, None without."""
  return derivation.stopped(history, **config.early_stopping.to_dict())


def _has_ended(config, history):
  """Whether a member needs no further epoch: it stopped early, or diverged beside others."""
  return bool(history) and (history[-1]['genotype'] is None or _stopped(config, history) is not None)


def _kendall(config, dataset, table, space, accuracies, cells):
  """diagnostics.ranking_correlation; `accuracies` is of (list of β, number of images)."""
  of_cells = lambda genotypes: accuracies([space.one_hot(g) for g in genotypes], config.benchmark.kendall_images)
  return diagnostics.ranking_correlation(table, dataset.name, of_cells, cells)


@dataclasses.dataclass
class Found:
  """The cell of a member: None where it diverged; the epoch that it is of; whether the search was stopped early."""

  genotype: Genotype | None
  epoch: int
  stopped_early: bool


def derive(config, outcome: Outcome, stop: threading.Event) -> list[Found] | None:
  """The cell of each member by `config.derivation`; None when `stop` is set in between.

  Raises:
    NonFiniteLoss: tuning the weights between the decisions diverges.
  """
  space, count = space_of(config), len(members_of(config))
  found = []
  for k in range(count):
    history = outcome.rows[k::count]
    epoch = _stopped(config, history)
    early = epoch is not None
    if not early:
      best = config.derivation.epoch == 'best' and history[-1]['genotype']
      epoch = derivation.best_epoch(history) if best else history[-1]['epoch']
    text = next(row for row in history if row['epoch'] == epoch)['genotype']
    genotype = space.parse(text) if text else None
    if genotype and config.derivation.method == 'perturbation':
      try:
        genotype = _by_perturbation(config, space, outcome, k, stop)
      except _Stopped:
        return None
    found.append(Found(genotype, epoch, early))
  return found


class _Stopped(Exception):
  """`stop` is set, in the midst of a derivation."""


def _by_perturbation(config, space, outcome, k, stop):
  """DARTS-PT on the last state of member k: the training program tunes the weights to what is left of β."""
  programs, states, epoch = outcome.programs, outcome.states, outcome.rows[-1]['epoch']
  step, tuned = (epoch + 1) * programs.steps_per_epoch, 0

  def accuracy_of(betas):
    if any_process(stop.is_set()):
      raise _Stopped
    return programs.one_shot(states, k, betas, config.derivation.images, epoch)

  def tune(betas):
    nonlocal states, step, tuned
    for _ in range(config.derivation.tune_epochs):
      tuned += 1  # an epoch beyond the search: its images come in an order of their own
      end = step + programs.steps_per_epoch
      while step < end:
        if any_process(stop.is_set()):
          raise _Stopped
        step = next_stop(step, end, config.search.steps_per_dispatch, 0)
        states, finite = programs.tune(states, epoch + tuned, k, betas, step)
        if not finite:
          raise NonFiniteLoss(
            f'the loss is no longer finite while the weights are tuned at derivation.learning_rate='
            f'{config.derivation.learning_rate}; the search itself is saved'
          )

  betas = {name: value[k] for name, value in programs.betas(states).items()}
  return derivation.select_by_perturbation(space, betas, accuracy_of, tune, seed=members_of(config)[k]['seed'])


def summarize(
  config, dataset: Dataset, table: NasBench201 | None, workdir: Workdir, outcome: Outcome, stop: threading.Event
) -> dict | None:
  """Derives and writes the genotypes; returns what result.json holds. None when `stop` is set in between.

  Of a lone search: genotype, the epoch that it is of, accuracies, benchmark, seconds, environment; genotype.json has
  the cell. Of a population: the same of each of `members`, their `settings` with mean and spread over seeds;
  members/K/genotype.json have the cells.
  """
  space, members = space_of(config), members_of(config)
  table = table if dataset.name in DATASETS else None
  found = derive(config, outcome, stop)
  if found is None:
    return None
  results = []
  for k, (member, cell) in enumerate(zip(members, found, strict=True)):
    row = next(row for row in outcome.rows[k :: len(members)] if row['epoch'] == cell.epoch)
    genotype = cell.genotype and str(cell.genotype)
    result: dict[str, Any] = {'genotype': genotype, 'epoch': cell.epoch, 'stopped_early': cell.stopped_early}
    result['derivation'] = config.derivation.method
    result |= {name: genotype and row[name] for name in ('train_accuracy', 'valid_accuracy')}
    if genotype:
      folder = workdir.path / 'members' / str(k) if is_population(config) else workdir.path
      _write_genotype(folder, config, genotype)
    if table and cell.genotype:
      result['benchmark'] = table.summary(cell.genotype)
      if config.benchmark.kendall_cells:
        accuracies = functools.partial(outcome.programs.one_shot, outcome.states, k)
        result['kendall_tau'] = _kendall(config, dataset, table, space, accuracies, config.benchmark.kendall_cells)
    results.append(({'member': k} | member if is_population(config) else {}) | result)
  whole = {'members': results, 'settings': population.summarize(results)} if is_population(config) else results[0]
  whole = whole | {'dataset': dataset.name}
  if table:
    whole['baselines'] = table.baselines(dataset.name)
  # train: of all processes that worked on the run; what a killed one did since its last epoch is not counted
  whole['seconds'] = {
    'compile': round(outcome.programs.compile_seconds, 2),
    'train': round(sum(row['seconds'] for row in outcome.rows[:: len(members)]), 2),
  }
  whole['memory'] = peak_memory()
  return whole | {'environment': environment(mesh_of(config))}


def _write_genotype(folder, config, genotype: str) -> None:
  """genotype.json, as `workdir.find_genotype` reads it."""
  if is_process_zero():
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / 'genotype.json', {'space': config.space.to_dict(), 'genotype': genotype})

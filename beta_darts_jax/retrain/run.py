"""The training of a genotype's network, from top to bottom."""

import time
from typing import Any

import jax

from beta_darts_jax.data import Dataset
from beta_darts_jax.retrain.programs import ResidentPrograms, StreamedPrograms
from beta_darts_jax.retrain.result import RetrainResult, summarize
from beta_darts_jax.retrain.setup import RetrainSetup
from beta_darts_jax.runtime.logs import Row, compiling
from beta_darts_jax.runtime.session import Session
from beta_darts_jax.runtime.workdir import Workdir


def run(setup: RetrainSetup, dataset: Dataset, workdir: Workdir) -> RetrainResult:
  """Trains to the end, or resumes an interrupted training of the same config.

  Args:
    setup: the setup of the run.
    dataset: its data.
    workdir: opened for its config.

  Raises:
    NonFiniteLoss: the training diverged. The last good checkpoint stays.
    Stopped: a signal came. The state is saved.
  """
  started = time.perf_counter()

  # ---- compile ----
  workdir.report_environment(setup.mesh)
  with compiling():
    programs = compile_programs(setup, dataset)

  loop_started = time.perf_counter()

  with Session(workdir, setup.session, setup.mesh) as session:
    initial = programs.initial_state()
    state = session.start(initial, lambda: initial)
    for epoch in session.epochs():
      # ---- train an epoch ----
      state = session.start_epoch(state, epoch)
      for until in session.chunks(epoch):
        with jax.transfer_guard('disallow'):  # what passes between host and devices is explicit
          state = programs.train(state, epoch, until)
        session.after_chunk(state)
      # ---- evaluate and log ----
      session.after_epoch(state, [epoch_row(setup, programs.evaluate(state), epoch)])
    rows = session.rows
  loop_seconds = time.perf_counter() - loop_started

  # ---- result ----
  seconds = {
    'compile': programs.compile_seconds,
    'train': sum(row['seconds'] for row in rows),  # of all processes that worked on the run
    'other': time.perf_counter() - started - programs.compile_seconds - loop_seconds,
  }
  values = summarize(setup, dataset, rows, state.variables, seconds)
  workdir.finish(values)
  return RetrainResult(workdir.path, values)


def compile_programs(setup: RetrainSetup, dataset: Dataset) -> ResidentPrograms | StreamedPrograms:
  """Compiles the programs of a training for data on the devices, or for data that is streamed."""
  shared: dict[str, Any] = {
    'recipe': setup.recipe,
    'seed': setup.seed,
    'auxiliary_weight': setup.auxiliary_weight,
    'mesh': setup.mesh,
  }
  used = dataset.subset(setup.fraction)
  if dataset.streamed:
    return StreamedPrograms(setup.network, used, workers=setup.workers, **shared)
  return ResidentPrograms(setup.network, used, augmentation=setup.augmentation, **shared)


def epoch_row(setup: RetrainSetup, evaluation, epoch: int) -> Row:
  """Returns what metrics.jsonl says of an epoch in addition to the training metrics."""
  test_loss, test_accuracy, test_top5_accuracy = map(float, evaluation)
  rates = setup.recipe.learning_rates(epoch, setup.session.steps_per_epoch)
  return {
    'test_loss': test_loss,
    'test_accuracy': test_accuracy,
    'test_top5_accuracy': test_top5_accuracy,
    'learning_rate': float(rates[-1]),
    'drop_path_rate': float(setup.recipe.drop_path_rate_in(epoch)),
  }

"""A search, from top to bottom."""

import functools
import time

import jax

from beta_darts_jax.data import Dataset
from beta_darts_jax.retrain.comparison import compare
from beta_darts_jax.runtime.processes import run_on_process_zero
from beta_darts_jax.runtime.session import Session
from beta_darts_jax.runtime.workdir import Workdir
from beta_darts_jax.search.cells import all_members_ended, select_cells
from beta_darts_jax.search.programs import SearchPrograms
from beta_darts_jax.search.result import SearchResult, summarize, write_genotypes
from beta_darts_jax.search.rows import describe_cells, epoch_rows, kendall_tau
from beta_darts_jax.search.setup import SearchSetup
from beta_darts_jax.spaces.nas_bench_201 import NasBench201
from beta_darts_jax.spaces.space import ALPHA_NOISE


def run(setup: SearchSetup, dataset: Dataset, table: NasBench201 | None, workdir: Workdir) -> SearchResult:
  """Searches, or resumes an interrupted search of the same config.

  Args:
    setup: the setup of the search.
    dataset: its data.
    table: the benchmark of the space and the data set, or None.
    workdir: opened for the config of the search.

  Raises:
    NonFiniteLoss: all members diverged. The last good checkpoint stays.
    Stopped: a signal came during the training. The state is saved.
  """
  started = time.perf_counter()
  workdir.report_environment(setup.mesh, report_schedule(setup))
  programs = SearchPrograms(setup, dataset)
  loop_started = time.perf_counter()

  with Session(workdir, setup.session, setup.mesh) as session:
    states = session.start(programs.state_shapes, programs.initial_states)
    for epoch in session.epochs():
      if all_members_ended(setup, session.rows):
        break
      programs.compile()
      # ---- train an epoch ----
      states = session.start_epoch(states, epoch)
      for until in session.chunks(epoch):
        with jax.transfer_guard('disallow'):  # what passes between host and devices is explicit
          states = programs.train(states, epoch, until)
        session.after_chunk(states)
      # ---- evaluate and log ----
      rows = epoch_rows(setup, programs, states, table, epoch, session.finite)
      session.after_epoch(states, rows, describe_cells(setup, rows, epoch, session.rows))
    rows = session.rows
  loop_seconds = time.perf_counter() - loop_started

  # ---- select the cells ----
  cells = select_cells(setup, programs, states, rows)
  write_genotypes(setup, workdir, cells)
  num_cells = setup.measurements.final_kendall_cells
  measure_tau = functools.partial(kendall_tau, setup, programs, states, table, num_cells)
  taus = [measure_tau(member) if cell.genotype else None for member, cell in enumerate(cells)]

  # ---- train the found cell and random cells ----
  trained, compare_started = None, time.perf_counter()
  if setup.comparison:
    trained = run_on_process_zero(compare, setup.comparison, setup.space, str(cells[0].genotype), dataset, workdir)

  # ---- result ----
  compare_seconds = time.perf_counter() - compare_started
  seconds = {
    'compile': programs.compile_seconds,
    'train': sum(row['seconds'] for row in rows[:: len(setup.members)]),  # of all processes that worked on the run
    **({'compare': compare_seconds} if trained else {}),
    'other': time.perf_counter() - started - loop_seconds - compare_seconds,
  }
  values = summarize(setup, table, cells, taus, trained, seconds)
  workdir.finish(values)
  return SearchResult(workdir.path, values)


def report_schedule(setup: SearchSetup) -> list[str]:
  """Prints the batch size, how far α moves, and λ. Prints and returns a warning if α stays near its initial values."""
  epochs = setup.session.epochs
  print(f'batch size {setup.batch_size}, {setup.schedule.describe(setup.members, epochs)}', flush=True)
  travel = min(setup.schedule.alpha_travel(member, epochs) for member in setup.members)
  if travel >= 30 * ALPHA_NOISE:
    return []
  warning = (
    f'α moves by at most {travel:.2g}, so its initial values, {ALPHA_NOISE}·N(0, 1), decide the cell. The search needs '
    'more steps: increase search.epochs.'
  )
  print(f'warning: {warning}', flush=True)
  return [warning]

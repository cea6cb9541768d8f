"""From the rows and the last states of a search to the cell of each member."""

import dataclasses

import numpy as np

from beta_darts_jax.errors import NonFiniteLoss
from beta_darts_jax.method.selection import best_epoch, eigenvalue_stop, select_by_perturbation, skip_stop
from beta_darts_jax.method.state import SearchState
from beta_darts_jax.runtime.logs import Row
from beta_darts_jax.runtime.session import next_stop
from beta_darts_jax.search.options import EarlyStopping
from beta_darts_jax.search.programs import SearchPrograms
from beta_darts_jax.search.setup import SearchSetup
from beta_darts_jax.spaces.genotype import Genotype


@dataclasses.dataclass(frozen=True)
class SelectedCell:
  """The cell of a member.

  Attributes:
    genotype: None where the member diverged.
    row: the member's row of the epoch whose cell is kept.
    stopped_early: whether early stopping chose the epoch.
  """

  genotype: Genotype | None
  row: Row
  stopped_early: bool


def histories(setup: SearchSetup, rows: list[Row]) -> list[list[Row]]:
  """Returns the rows of each member, epoch by epoch."""
  return [rows[k :: len(setup.members)] for k in range(len(setup.members))]


def early_stop(history: list[Row], rules: EarlyStopping) -> Row | None:
  """Returns the row that early stopping keeps, or None. If both rules stop, it keeps the earlier epoch."""
  kept = []
  if rules.eigenvalue_ratio:
    measured = [row for row in history if 'eigenvalues' in row.get('diagnostics', {})]
    dominant = [row['diagnostics']['eigenvalues'][0] for row in measured]
    index = eigenvalue_stop(dominant, rules.eigenvalue_ratio, rules.eigenvalue_window)
    kept += [] if index is None else [measured[index]]
  if rules.skips:
    index = skip_stop([row['skips'] for row in history], rules.skips)
    kept += [] if index is None else [history[index]]
  return min(kept, key=lambda row: row['epoch'], default=None)


def all_members_ended(setup: SearchSetup, rows: list[Row]) -> bool:
  """Returns whether every member has stopped early or diverged."""

  def has_ended(history):
    return bool(history) and (history[-1]['genotype'] is None or early_stop(history, setup.early_stopping) is not None)

  return all(has_ended(history) for history in histories(setup, rows))


def select_cells(
  setup: SearchSetup, programs: SearchPrograms, states: SearchState, rows: list[Row]
) -> list[SelectedCell]:
  """Returns the cell of each member.

  Raises:
    NonFiniteLoss: the weights diverge while DARTS-PT tunes them.
  """
  return [
    _select_cell(setup, programs, states, history, member) for member, history in enumerate(histories(setup, rows))
  ]


def _select_cell(setup, programs, states, history, member):
  row, selection, last = early_stop(history, setup.early_stopping), setup.selection, history[-1]
  stopped_early = row is not None
  if row is None:
    keeps_best = selection.epoch == 'best' and last['genotype'] is not None
    row = history[best_epoch([measured['valid_accuracy'] for measured in history])] if keeps_best else last
  genotype = setup.space.parse(row['genotype']) if row['genotype'] else None
  if genotype and selection.method == 'perturbation':
    genotype = _select_by_perturbation(setup, programs, states, last['epoch'], member)
  return SelectedCell(genotype, row, stopped_early)


def with_edge_weights(betas: dict, trained: dict) -> dict:
  """Returns β {cell type: [E, O]} in which each edge has the sum, its weight, that it has in `trained`."""

  def rescaled(beta, trained):
    total = beta.sum(axis=-1, keepdims=True)
    return np.where(total > 0, beta / np.where(total > 0, total, 1) * trained.sum(axis=-1, keepdims=True), 0)

  return {name: rescaled(beta, trained[name]) for name, beta in betas.items()}


def _select_by_perturbation(setup, programs, states, last_epoch, member) -> Genotype:
  """DARTS-PT on the last state of a member. The training program tunes the weights between the decisions."""
  selection, session = setup.selection, setup.session
  step, epoch = (last_epoch + 1) * session.steps_per_epoch, last_epoch

  def accuracy_of(betas):
    return programs.one_shot(states, member, betas, selection.images, last_epoch, selection.augment)

  def mean_betas():
    return {name: value[member] for name, value in programs.mean_betas(states).items()}

  def tune(betas, decided):
    nonlocal states, step, epoch
    for _ in range(selection.tune_epochs):
      epoch += 1  # the images of the extra epochs come in orders of their own
      end = step + session.steps_per_epoch
      while step < end:
        step = next_stop(step, end, session.steps_per_dispatch, every=0)
        states, is_finite = programs.tune(states, epoch, member, betas, decided, step)
        if not is_finite:
          raise NonFiniteLoss(
            'the loss is no longer finite while DARTS-PT tunes the weights at learning rate '
            f'{selection.learning_rate}. The search itself is saved'
          )

    if not selection.train_alpha:
      return betas
    trained = mean_betas()
    kept = with_edge_weights(betas, trained) if setup.parts.relaxation.edges else betas
    return {name: np.where(decided[name][:, None], kept[name], trained[name]) for name in trained}

  if selection.reset_optimizer:
    states = programs.reset_weight_optimizer(states)
  return select_by_perturbation(setup.space, mean_betas(), accuracy_of, tune, setup.members[member].seed)

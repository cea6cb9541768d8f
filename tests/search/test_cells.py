"""The choice of the epoch whose cell a search keeps."""

from beta_darts_jax.search.cells import early_stop
from beta_darts_jax.search.options import EarlyStopping


def test_early_stopping_by_eigenvalues_keeps_the_cell_of_the_measured_epoch():
  """The eigenvalues are measured in every second epoch. If two rules apply, the earlier epoch is kept."""
  values = iter([1.0, -1.0, 1.0, 1.0, 1.5, -1.5])  # the rule compares their magnitudes
  history = []
  for epoch in range(12):
    diagnostics = {'eigenvalues': [next(values), 0.1]} if epoch % 2 else {}
    history.append({'epoch': epoch, 'skips': 0, 'diagnostics': diagnostics})
  by_eigenvalues = EarlyStopping(eigenvalue_ratio=0.75, eigenvalue_window=2)
  assert early_stop(history, by_eigenvalues)['epoch'] == 7
  assert early_stop(history[:11], by_eigenvalues) is None
  history[5]['skips'] = 2
  by_both = EarlyStopping(eigenvalue_ratio=0.75, eigenvalue_window=2, skips=2)
  assert early_stop(history, by_both)['epoch'] == 5

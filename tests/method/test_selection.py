import numpy as np

from beta_darts_jax import DARTS_WITH_NONE, NAS_BENCH_201
from beta_darts_jax.method.selection import best_epoch, eigenvalue_stop, select_by_perturbation, skip_stop
from beta_darts_jax.search.cells import with_edge_weights


def test_eigenvalue_stop_compares_windows():
  """Window 2: the mean grows from 1 to 1.5 at the sixth value, 1/1.5 < 0.75; the value two before is kept."""
  values = [1.0, -1.0, 1.0, 1.0, 1.5, -1.5]
  assert eigenvalue_stop(values, 0.75, window=2) == 3
  assert eigenvalue_stop(values[:5], 0.75, window=2) is None  # 1/1.25
  assert eigenvalue_stop(values, 0.6, window=2) is None
  assert eigenvalue_stop([1.0] * 20, 0.99) is None


def test_skip_stop_finds_the_first_epoch():
  num_skips = [0, 1, None, 2, 1, 3]
  assert skip_stop(num_skips, 2) == 3 and skip_stop(num_skips, 4) is None


def test_best_epoch_is_the_first_of_equals():
  assert best_epoch([0.1, 0.5, None, 0.5]) == 1


def missed(truth):
  """An accuracy that falls by `truth` for every operation that counts nothing, whatever β says."""
  return lambda betas: np.array(
    [1 - sum(float(truth[name][np.asarray(beta[name]) == 0].sum()) for name in truth) for beta in betas]
  )


def recorded_in(calls):
  """A training that changes nothing."""
  return lambda betas, decided: calls.append(betas) or betas


def test_perturbation_keeps_the_operations_that_the_supernet_misses():
  """Not what β prefers: β is the reverse of the truth here."""
  rng = np.random.default_rng(0)
  truth = {'cell': rng.uniform(size=(6, 5))}
  calls = []
  found = select_by_perturbation(NAS_BENCH_201, {'cell': 2 - truth['cell']}, missed(truth), recorded_in(calls))
  assert found == NAS_BENCH_201.derive(truth)
  assert len(calls) == 5  # not after the last decision
  assert [int((call['cell'] > 0).sum()) for call in (calls[0], calls[-1])] == [30 - 4, 30 - 20]


def test_perturbation_keeps_two_edges_per_node():
  rng = np.random.default_rng(1)
  space = DARTS_WITH_NONE
  truth = {name: rng.uniform(0.1, 1, size=(14, 8)) for name in space.cell_types}
  found = select_by_perturbation(space, {name: np.ones((14, 8)) for name in truth}, missed(truth))
  for name, cell in zip(space.cell_types, found.cells, strict=True):
    for target, node in enumerate(cell.nodes, 2):
      assert len(node) == 2
      for operation, source in node:
        e = space.edges.index((target, source))
        names = space.candidates(name)[e]
        assert names.index(operation) == 1 + np.argmax(truth[name][e, 1:])  # never none


def test_order_of_edges_depends_on_the_seed():
  rng = np.random.default_rng(2)
  truth = {'cell': rng.uniform(size=(6, 5))}
  first = []
  for seed in range(4):
    seen = []
    select_by_perturbation(NAS_BENCH_201, truth, missed(truth), recorded_in(seen), seed)
    first.append(int(np.argmax((seen[0]['cell'] == 0).any(-1))))
  assert len(set(first)) > 1


def test_decided_edges_follow_the_edge_weights_that_are_still_trained():
  """The first edge keeps its operation at the new weight 0.3, and the dropped edge stays at 0."""
  kept = {'cell': np.array([[0.0, 0.8], [0.0, 0.0]])}
  trained = {'cell': np.array([[0.1, 0.2], [0.3, 0.4]])}
  np.testing.assert_allclose(with_edge_weights(kept, trained)['cell'], [[0.0, 0.3], [0.0, 0.0]], rtol=1e-12)

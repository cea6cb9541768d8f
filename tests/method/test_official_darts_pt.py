"""DARTS-PT: the decisions of its official program, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rivals import Golden, agree, hyperparameters, sort_nodes

from beta_darts_jax import DARTS, NAS_BENCH_201, SearchState, Supernet, make_search_step, softmax_betas
from beta_darts_jax.method.losses import make_loss
from beta_darts_jax.method.selection import Order, select_by_perturbation


def test_the_order_of_decisions_in_the_darts_space():
  """The accuracy of a supernet is replaced by a formula: every score in order, all decisions and the cell."""
  golden = Golden('darts_pt_darts', DARTS)
  linear = np.concatenate([golden[f'linear_{name}'].ravel() for name in DARTS.cell_types])
  scores = []

  def accuracy_of(betas):
    flat = [np.concatenate([beta[name].ravel() for name in DARTS.cell_types]) for beta in betas]
    scores.extend(50 + v @ linear + v @ golden['mixing'] @ v for v in flat)
    return np.array(scores[-len(betas) :])

  order = Order(
    edges={name: [e for t, e, _ in golden['op_decisions'] if t == i] for i, name in enumerate(DARTS.cell_types)},
    nodes={name: [n + 3 for t, n, *_ in golden['edge_decisions'] if t == i] for i, name in enumerate(DARTS.cell_types)},
  )
  betas = {name: golden[f'betas_{name}'] for name in DARTS.cell_types}
  found = select_by_perturbation(DARTS, betas, accuracy_of, order=order)
  agree('DARTS-PT', 'scores of all decisions, with a formula', np.array(scores), golden['scores'][:, 1])
  for name, cell in zip(DARTS.cell_types, found.cells, strict=True):
    names = DARTS.candidates(name)[0]
    ours = [(names.index(operation), source) for node in cell.nodes for operation, source in node]
    assert sort_nodes(ours) == sort_nodes(golden[f'genotype_{name}'])


@pytest.mark.full
@pytest.mark.parametrize('form', ['', 'frozen/'])
def test_darts_pt(form):
  """Six decisions with the training of the weights, and of α or not, in between: accuracies, losses, β and the cell."""
  golden = Golden('darts_pt', NAS_BENCH_201)
  supernet = Supernet(NAS_BENCH_201, 10, channels=4, cells_per_stage=1)
  train, valid = (list(zip(*golden.batch(kind), strict=True)) for kind in ('train', 'valid'))
  with jax.enable_x64(True):
    step, loss = make_search_step(supernet, ()), make_loss(supernet)
    hyper = hyperparameters(learning_rate=golden['tune_learning_rate'], alpha_learning_rate=0.0 if form else 3e-4)

    @jax.jit
    def evaluate(params, betas, batch_stats):
      batches = jax.tree.map(lambda *x: jnp.stack(x), *valid)
      one = lambda batch: loss(params, betas, batch_stats, batch, jax.random.key(0))
      values, (accuracies, _) = jax.lax.map(one, batches)
      return jnp.mean(values), 100 * jnp.mean(accuracies)

    state = SearchState.create(golden.variables(), golden.alphas('alpha_before'))
    stage, measured = 0, []

    def accuracy_of(betas):
      results = [evaluate(state.params, beta, state.batch_stats) for beta in betas]
      measured.append((np.array(results), betas))
      return np.array([accuracy for _, accuracy in results])

    def tune(betas, decided):
      nonlocal state, stage
      fixed = decided['cell'][:, None]
      one_hot = np.where(betas['cell'] > 0, 0.0, np.log(1e-30))
      state = state.replace(alphas={'cell': jnp.where(fixed, one_hot, state.alphas['cell'])})
      for _ in range(golden['decision_epochs'][stage + 1] - golden['decision_epochs'][stage]):
        for batch in train:
          state, _ = step(state, batch, valid[0], hyper)
      stage += 1
      if stage == 1 and not form:
        agree_on_weights(golden, state)
      return {'cell': np.where(fixed, betas['cell'], softmax_betas(state.alphas)['cell'])}

    order = Order({'cell': golden[f'{form}edges'].tolist()}, {'cell': []})
    genotype = select_by_perturbation(NAS_BENCH_201, softmax_betas(state.alphas), accuracy_of, tune, order)
  suffix = ', α fixed' if form else ''
  for i, (results, betas) in enumerate(measured):
    agree('DARTS-PT', f'losses without one operation{suffix}', results[:, 0], golden[f'{form}losses'][i])
    agree('DARTS-PT', f'accuracies without one operation{suffix}', results[:, 1], golden[f'{form}accuracies'][i])
    if not form:
      tried = np.stack([beta['cell'] for beta in betas])
      agree('DARTS-PT', 'β without one operation', tried, golden['masked_betas'][i])
  operations = [NAS_BENCH_201.candidates('cell')[0].index(name) for name in genotype.normal.operations]
  np.testing.assert_array_equal(operations, golden[f'{form}genotype'])


def agree_on_weights(golden, state):
  expected = golden.variables('at_second_decision/')['params']
  pairs = zip(jax.tree.leaves(state.params), jax.tree.leaves(expected), strict=True)
  for ours, theirs in pairs:
    agree('DARTS-PT', 'weights at the second decision', ours, theirs)

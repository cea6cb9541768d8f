"""DARTS-PT: the decisions of its official program, in float64."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rivals import Golden, agree, hyperparameters, sort_nodes

from beta_darts_jax import DARTS, NAS_BENCH_201, Relaxation, SearchState, Supernet, make_search_step, softmax_betas
from beta_darts_jax.method.losses import make_loss
from beta_darts_jax.method.relaxations import SOFTMAX
from beta_darts_jax.method.selection import Order, select_by_perturbation
from beta_darts_jax.search.cells import select_cells
from beta_darts_jax.search.options import EarlyStopping, Selection


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


class RecordedPrograms:
  """What select_cells calls, for one member: trains and evaluates on the recorded batches, in their order."""

  def __init__(self, golden, is_frozen):
    supernet = Supernet(NAS_BENCH_201, 10, channels=4, cells_per_stage=1)
    self.train, self.valid = (list(zip(*golden.batch(kind), strict=True)) for kind in ('train', 'valid'))
    self.hyper = hyperparameters(
      learning_rate=golden['tune_learning_rate'], alpha_learning_rate=0.0 if is_frozen else 3e-4
    )
    self.step, self.loss = make_search_step(supernet, ()), make_loss(supernet)
    self.num_epochs, self.measured, self.tuned, self.decided_at = 0, [], [], []
    self.last_epoch = golden['decision_epochs'][-1]  # one fewer than ours

  def mean_betas(self, states):
    return {'cell': softmax_betas(states.alphas)['cell'][None]}

  def reset_weight_optimizer(self, states):
    assert not any(np.any(trace) for trace in jax.tree.leaves(states.weight_optimizer_state))
    return states

  def tune(self, states, epoch, member, betas, decided, until):
    if self.num_epochs < self.last_epoch:
      self.num_epochs += 1
      states = states.replace(alphas=SOFTMAX.with_decided(states.alphas, betas, decided))
      for batch in self.train:
        states, _ = self.step(states, batch, self.valid[0], self.hyper)
    self.tuned.append(states.params)
    return states, True

  def one_shot(self, states, member, betas, count, epoch, augment):
    results = np.array([self._evaluate(states.params, beta, states.batch_stats) for beta in betas])
    self.measured.append(results)
    self.decided_at.append(self.num_epochs)
    return results[:, 1]

  @functools.partial(jax.jit, static_argnums=0)
  def _evaluate(self, params, betas, batch_stats):
    batches = jax.tree.map(lambda *x: jnp.stack(x), *self.valid)
    one = lambda batch: self.loss(params, betas, batch_stats, batch, jax.random.key(0))
    values, (accuracies, _) = jax.lax.map(one, batches)
    return jnp.mean(values), 100 * jnp.mean(accuracies)


@pytest.mark.full
@pytest.mark.parametrize('form', ['', 'frozen/'])
def test_the_decisions_equal_those_of_the_official_darts_pt(form):
  """Six decisions with the training of the weights, and of α or not, in between: accuracies, losses and the cell."""
  golden = Golden('darts_pt', NAS_BENCH_201)
  with jax.enable_x64(True):
    programs = RecordedPrograms(golden, is_frozen=bool(form))
    setup = types.SimpleNamespace(
      space=NAS_BENCH_201,
      selection=Selection(method='perturbation', tune_epochs=2, train_alpha=not form, reset_optimizer=True),
      session=types.SimpleNamespace(steps_per_epoch=len(programs.train), steps_per_dispatch=len(programs.train)),
      members=[types.SimpleNamespace(seed=Order({'cell': golden[f'{form}edges'].tolist()}, {'cell': []}))],
      early_stopping=EarlyStopping(),
      parts=types.SimpleNamespace(relaxation=Relaxation()),
    )
    state = SearchState.create(golden.variables(), golden.alphas('alpha_before'))
    by_argmax = str(NAS_BENCH_201.derive(softmax_betas(state.alphas)))
    (cell,) = select_cells(setup, programs, state, [{'epoch': 99, 'genotype': by_argmax}])
    assert programs.decided_at == golden['decision_epochs'].tolist()
    suffix = ', α fixed' if form else ''
    tolerance = 1e-11  # a β of 0 is 1e-13 in the training between the decisions
    for i, results in enumerate(programs.measured):
      agree('DARTS-PT', f'losses without one operation{suffix}', results[:, 0], golden[f'{form}losses'][i], tolerance)
      agree('DARTS-PT', f'accuracies without one operation{suffix}', results[:, 1], golden[f'{form}accuracies'][i])
    if not form:
      expected = golden.variables('at_second_decision/')['params']
      for ours, theirs in zip(jax.tree.leaves(programs.tuned[1]), jax.tree.leaves(expected), strict=True):
        agree('DARTS-PT', 'weights at the second decision', ours, theirs, tolerance)
  operations = [NAS_BENCH_201.candidates('cell')[0].index(name) for name in cell.genotype.normal.operations]
  np.testing.assert_array_equal(operations, golden[f'{form}genotype'])

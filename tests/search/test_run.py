"""Whole searches: resume, divergence, early stopping, the choice of the cell, and the comparison with random cells."""

import collections

import jax
import numpy as np
import optax
import pytest
from small_run import DATASET, final_state, make_config, read_rows, run, stop_at_once

from beta_darts_jax.errors import NonFiniteLoss, Stopped
from beta_darts_jax.method import diagnostics
from beta_darts_jax.runtime import session
from beta_darts_jax.runtime.logs import MetricsFile
from beta_darts_jax.search import programs, run as search_run, schedule
from beta_darts_jax.search.programs import SearchPrograms
from beta_darts_jax.search.setup import make_search_setup, make_search_space
from beta_darts_jax.spaces.lookup import find_genotype

# ---- the loop ----


def test_run_compiles_nothing_after_the_first_epoch(tmp_path, monkeypatch):
  """Two more epochs with evaluation and checkpoints: nothing is traced or compiled again."""
  config = make_config(search__epochs=3, search__steps_per_dispatch=1, checkpoint__every_steps=1)
  events, counts = [], []
  append = MetricsFile.append

  def append_and_count(self, rows):
    append(self, rows)
    counts.append(len(events))

  def listen(event, *_, **__):
    if event.startswith('/jax/core/compile/'):
      events.append(event)

  monkeypatch.setattr(MetricsFile, 'append', append_and_count)
  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    run(config, tmp_path)
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
  assert len(counts) == 3 and counts[0] > 0
  assert events[counts[0] : counts[2]] == []


def test_a_search_that_ends_early_takes_the_first_epochs_of_the_whole_one(tmp_path):
  """search.last_epoch leaves all schedules as they are: λ, rates, and so the rows."""
  options = {'search__epochs': 3, 'search__beta_decay_weight': 30.0, 'search__alpha_learning_rate': 0.1}
  run(make_config(**options), tmp_path / 'whole')
  result = run(make_config(**options, search__last_epoch=2), tmp_path / 'early')
  whole, early = (
    [{k: v for k, v in row.items() if k not in ('seconds', 'images_per_second')} for row in read_rows(tmp_path / name)]
    for name in ('whole', 'early')
  )
  assert early == whole[:2] and len(whole) == 3
  assert result['epoch'] == 1 and not result['stopped_early']


def test_a_search_in_which_alpha_hardly_moves_has_a_warning(capsys):
  """Four steps at the rate 3e-4 move α by 0.0012, near its initial values of 0.001·N(0, 1)."""
  (warning,) = search_run.report_schedule(make_search_setup(make_config(), DATASET))
  assert warning.startswith('α moves by at most 0.0012') and f'warning: {warning}' in capsys.readouterr().out
  assert search_run.report_schedule(make_search_setup(make_config(search__alpha_learning_rate=0.1), DATASET)) == []


METHODS = {
  'second order with PC-DARTS': {
    'hypergradient__method': 'second_order', 'relaxation__partial_channels': 2, 'relaxation__edge_normalization': True,
  },
  'GDAS': {'relaxation__sampling': 'gumbel', 'search__regularizers': ()},
  'SDARTS-ADV with DARTS-, flooding and four regularizers': {
    'relaxation__perturbation': 'adversarial', 'relaxation__auxiliary_skip': True, 'search__flood_level': 0.5,
    'search__regularizers': ('decoupled_beta_decay', 'l2', 'weight_decay', 'lambda_darts'), 'search__l2_weight': 0.01,
    'search__alignment_weight': 0.1, 'search__alpha_warmup_epochs': 1,
  },
  'a population': {'population__seeds': 2, 'population__beta_decay_weight': (0.0, 50.0)},
}  # fmt: skip


@pytest.mark.full
@pytest.mark.parametrize('name', METHODS)
def test_run_resumes_to_the_same_bits(name, tmp_path, monkeypatch):
  """A run that stops after the first epoch and is started again ends like one that never stopped."""
  config = make_config(
    space__operations=('none', 'skip_connect', 'nor_conv_1x1'), supernet__channels=4, **METHODS[name]
  )
  run(config, tmp_path / 'whole')
  with monkeypatch.context() as patched, pytest.raises(Stopped):
    patched.setattr(session, 'catch_stop_signals', stop_at_once)
    run(config, tmp_path / 'stopped')
  run(config, tmp_path / 'stopped')
  jax.tree.map(np.testing.assert_array_equal, final_state(tmp_path / 'stopped'), final_state(tmp_path / 'whole'))
  cells = [[row['genotype'] for row in read_rows(tmp_path / name)] for name in ('stopped', 'whole')]
  assert cells[0] == cells[1]


# ---- divergence ----


def test_run_keeps_the_last_good_checkpoint_of_a_diverged_search(tmp_path, monkeypatch):
  config, cosine = make_config(), schedule.cosine
  monkeypatch.setattr(schedule, 'cosine', lambda *args: cosine(*args) if args[2] == 0 else float('nan'))
  with pytest.raises(NonFiniteLoss, match=r'epoch 2, step [34] \(.*train_loss nan') as raised:
    run(config, tmp_path)
  assert '\n' not in str(raised.value)
  assert [f.name for f in (tmp_path / 'checkpoints').iterdir()] == ['2']
  monkeypatch.undo()
  result = run(config, tmp_path)  # with a finite rate it resumes
  assert final_state(tmp_path)['step'] == 4 and len(read_rows(tmp_path)) == 2
  monkeypatch.setattr(programs, 'compile_together', None)  # nothing is left to train, so this is not called
  again = run(config, tmp_path)
  assert again['genotype'] == result['genotype'] and again['seconds']['compile'] == 0


@pytest.mark.full
def test_a_member_with_a_non_finite_state_has_diverged(tmp_path, monkeypatch):
  """Training does not read the running variances, and with infinite ones the evaluation gives finite losses."""
  train = SearchPrograms.train

  @jax.jit
  def spoil(states):
    def spoil_variance(path, x):
      return x.at[1].set(np.inf) if path[-1].key == 'var' else x

    return states.replace(batch_stats=jax.tree_util.tree_map_with_path(spoil_variance, states.batch_stats))

  monkeypatch.setattr(SearchPrograms, 'train', lambda self, *arguments: spoil(train(self, *arguments)))
  values = run(make_config(population__seeds=2), tmp_path)
  assert all(np.isfinite(row['valid_loss']) for row in read_rows(tmp_path))
  assert [member['genotype'] is None for member in values['members']] == [False, True]
  assert values['settings'][0]['diverged'] == 1 and values['settings'][0]['valid_accuracy']['n'] == 1
  assert [path.parent.name for path in tmp_path.glob('members/*/genotype.json')] == ['0']


# ---- which cell ----


@pytest.mark.full
def test_early_stopping_ends_the_run(tmp_path, monkeypatch):
  """It ends at its first cell with a skip connection. The same command finds it finished, with the same cell."""
  config = make_config(space__operations=('skip_connect', 'max_pool_3x3'), search__epochs=6, early_stopping__skips=1)
  skips = iter([0, 0, 2])
  monkeypatch.setattr(diagnostics, 'num_skips', lambda genotype: next(skips))
  values = run(config, tmp_path)
  rows = read_rows(tmp_path)
  again = run(config, tmp_path)  # as after a kill before result.json was written
  assert read_rows(tmp_path) == rows and again['genotype'] == values['genotype']
  assert len(rows) == 3 and final_state(tmp_path)['step'] == 6
  assert values['stopped_early'] and values['epoch'] == 2 and values['genotype'] == rows[2]['genotype']


@pytest.mark.full
def test_early_stopping_of_members(tmp_path, monkeypatch):
  """Each member stops at its own epoch, and the run ends when all have stopped. Members differ in λ and b."""
  config = make_config(
    search__epochs=4, early_stopping__skips=1, search__regularizers=('beta_decay', 'l2'),
    population__l2_weight=(0.0, 1.0), population__flood_level=(2.0,), diagnostics__every_epochs=2,
    diagnostics__images=32,
  )  # fmt: skip
  skips = iter([0, 1, 1, 0])
  monkeypatch.setattr(diagnostics, 'num_skips', lambda genotype: next(skips))
  members, rows = run(config, tmp_path)['members'], read_rows(tmp_path)
  assert len(rows) == 4
  assert [(m['l2_weight'], m['epoch'], m['stopped_early']) for m in members] == [(0, 1, True), (1, 0, True)]
  assert [m['genotype'] for m in members] == [rows[2]['genotype'], rows[1]['genotype']]
  eigenvalues = [row['diagnostics']['eigenvalues'] for row in rows[2:]]
  assert eigenvalues[0] != eigenvalues[1] and 'eigenvalues' not in rows[0]['diagnostics']
  assert all(np.isfinite(row['train_loss']) for row in rows)


@pytest.mark.full
def test_the_cell_of_the_best_epoch_is_kept(tmp_path, monkeypatch):
  config = make_config(derivation__epoch='best', search__epochs=3)
  accuracies, make_rows = iter((0.1, 0.9, 0.3)), search_run.epoch_rows

  def rows_with_other_accuracies(*arguments):
    return [row | {'valid_accuracy': next(accuracies)} for row in make_rows(*arguments)]

  monkeypatch.setattr(search_run, 'epoch_rows', rows_with_other_accuracies)
  values = run(config, tmp_path)
  assert values['epoch'] == 1 and values['valid_accuracy'] == 0.9
  assert values['genotype'] == read_rows(tmp_path)[1]['genotype']


Call = collections.namedtuple('Call', 'epoch, member, betas, until, state, is_finite, momentum')


@pytest.mark.full
def test_perturbation_tunes_the_weights_between_decisions(tmp_path, monkeypatch):
  """DARTS-PT: an epoch of weight steps between two decisions, with α fixed where an operation is decided."""
  calls, tune, accuracies, one_shot = [], SearchPrograms.tune, [], SearchPrograms.one_shot

  def tune_and_record(self, states, epoch, member, betas, decided, until):
    momentum = float(optax.tree.norm(optax.tree.get(states.weight_optimizer_state, 'trace')))  # before it trains
    state, is_finite = tune(self, states, epoch, member, betas, decided, until)
    calls.append(Call(epoch, member, betas, until, jax.device_get(state), is_finite, momentum))
    return state, is_finite

  def measure_both_ways(self, *arguments):
    *rest, augment = arguments
    accuracies.append([one_shot(self, *rest, augmented) for augmented in (augment, not augment)])
    return accuracies[-1][0]

  monkeypatch.setattr(SearchPrograms, 'tune', tune_and_record)
  monkeypatch.setattr(SearchPrograms, 'one_shot', measure_both_ways)
  options = {'derivation__method': 'perturbation', 'derivation__images': 32}
  config = make_config(**options)
  values = run(config, tmp_path)
  space = make_search_space(config)
  space.parse(values['genotype'])
  assert values['derivation'] == 'perturbation'
  assert [call.epoch for call in calls] == [2]  # between two stages; each node has two edges, so none is dropped
  last = calls[-1]
  assert (last.member, last.until, last.is_finite) == (0, 2 * 2 + 2, True)
  assert last.momentum > 0
  assert int(last.state.step[0]) == last.until
  for name in space.cell_types:  # α stays as it was set
    np.testing.assert_allclose(jax.nn.softmax(last.state.alphas[name][0]), last.betas[name], atol=1e-6)
  assert sum(int((last.betas[name] == 1).any(-1).sum()) for name in space.cell_types) == 2

  official = {f'derivation__{name}': True for name in ('train_alpha', 'reset_optimizer', 'augment')}
  values = run(make_config(**options | official | {'derivation__images': 0}), tmp_path / 'official')
  trained, num_moved = calls[-1], 0
  assert trained.momentum == 0  # the optimizer has started again
  assert np.any(np.ptp(accuracies[len(accuracies) // 2 :], axis=1))  # the images are other ones
  for name in space.cell_types:
    before, now = trained.betas[name], jax.nn.softmax(trained.state.alphas[name][0])
    is_decided = (before == 1).any(-1)
    np.testing.assert_allclose(now[is_decided], before[is_decided], atol=1e-6)
    num_moved += int(np.sum(now[~is_decided] != before[~is_decided]))
  assert num_moved  # β of the edges that are not decided

  with pytest.raises(NonFiniteLoss, match=r'learning rate 1e\+30'):
    run(make_config(derivation__learning_rate=1e30, **options), tmp_path / 'other')


# ---- the cell beside random cells ----


@pytest.mark.full
def test_a_search_trains_its_cell_and_random_cells(tmp_path):
  """In S4, whose operations are noise and a separable convolution."""
  config = make_config(
    space__operations=(), retrain__epochs=1, retrain__random_cells=1, retrain__batch_size=32, retrain__channels=2,
    retrain__layers=2,
  )  # fmt: skip
  values, space = run(config, tmp_path), make_search_space(config)
  assert str(space.parse(values['genotype'])) == values['genotype'] == read_rows(tmp_path)[-1]['genotype']
  assert find_genotype(str(tmp_path)) == (space.parse(values['genotype']), False)
  found, trained = values['retrain']['found'], values['retrain']['random']
  assert found['genotype'] == values['genotype']
  random_cell = space.random_genotype(np.random.default_rng(config.search.seed))
  assert [cell['genotype'] for cell in trained] == [str(random_cell)] and trained[0]['parameters'] > 0
  assert all(0 <= cell['test_accuracy'] <= 1 for cell in (found, *trained))

import itertools
import json
import pathlib
import runpy
import threading

import chex
import jax
import numpy as np
import pytest
from conftest import made_up_lines

from beta_darts_jax import (
  NAS_BENCH_201,
  InputError,
  NasBench201,
  SearchSpace,
  SearchState,
  Supernet,
  main,
  make_search_step,
  softmax_betas,
)
from beta_darts_jax.config import default
from beta_darts_jax.config.check import check
from beta_darts_jax.data import Augmentation, Dataset
from beta_darts_jax.errors import NonFiniteLoss
from beta_darts_jax.method.optimizers import Hyperparameters
from beta_darts_jax.retrain import comparison
from beta_darts_jax.runtime.logs import MetricsFile
from beta_darts_jax.runtime.loop import next_stop
from beta_darts_jax.runtime.workdir import Workdir
from beta_darts_jax.search import programs
from beta_darts_jax.search import run as search
from beta_darts_jax.spaces.lookup import find_genotype
from beta_darts_jax.spaces.nas_bench_201 import Row

CONFIG = pathlib.Path(__file__).parents[2] / 'configs' / 'nas_bench_201.py'
NAMED = sorted(runpy.run_path(str(CONFIG))['METHODS'])


def pictures(seed, count=64):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (count, 8, 8, 3), np.uint8), np.arange(count, dtype=np.int32) % 4


def test_learning_rate_and_ramp_of_the_protocol():
  settings = programs.settings_of(check(default()), {})
  values = [programs.hyperparameters(settings, epoch) for epoch in (0, 1, 50, 99)]
  rates = [0.025, 0.025 - 0.012 * (1 - np.cos(np.pi / 100)), 0.013, 0.001 + 0.012 * (1 + np.cos(0.99 * np.pi))]
  np.testing.assert_allclose([v.learning_rate for v in values], rates)
  np.testing.assert_allclose([v.beta_decay_weight for v in values], [0, 0.5, 25, 49.5])
  assert (values[0].alpha_b1, values[0].alpha_b2) == (0.5, 0.999)


def test_how_far_alpha_comes():
  config = default()
  assert programs.alpha_reach(config, 390) == pytest.approx(11.7)
  config.search.alpha_warmup_epochs = 30
  assert programs.alpha_reach(config, 390) == pytest.approx(0.7 * 11.7)
  config.population.alpha_learning_rate = (1e-4, 1e-2)
  assert programs.alpha_reach(config, 390) == pytest.approx(70 * 390 * 1e-4)


@pytest.mark.parametrize('cells, said', [(0, False), (5, True)])
def test_kendalls_tau_without_a_benchmark_is_named(cells, said, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(search, 'run', lambda *_: None)
  config = default()
  config.data.source, config.benchmark.kendall_cells = 'digits', cells
  main.run_search(check(config), tmp_path / 'run')
  assert ('no benchmark has the cells of nas_bench_201 on digits' in capsys.readouterr().out) == said


@pytest.mark.parametrize(
  'step, end, dispatch, every, expected', [(0, 390, 20, 0, 20), (380, 390, 20, 0, 390), (18, 390, 20, 25, 25)]
)
def test_chunks_end_at_epochs_and_checkpoints(step, end, dispatch, every, expected):
  assert next_stop(step, end, dispatch, every) == expected


def test_each_level_learns_from_its_own_half():
  space = SearchSpace('small', 'darts', 1, ('skip_connect', 'sep_conv_3x3'))
  supernet = Supernet(space, num_classes=4, channels=2, layers=1)  # a reduction cell
  augmentation = Augmentation((0.5,) * 3, (0.25,) * 3, crop_padding=1)
  train = jax.jit(programs.make_train(make_search_step(supernet), augmentation, 16, 4, programs.make_mesh(16)))
  order = np.arange(64, dtype=np.int32).reshape(4, 16)
  alphas = space.init_alphas(jax.random.key(1))
  variables = jax.jit(supernet.init)(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32), softmax_betas(alphas))

  def after(stop, weights_half, alpha_half, alpha_learning_rate=0.0):
    hyper = jax.tree.map(np.float32, Hyperparameters(alpha_learning_rate=alpha_learning_rate))
    member = SearchState.create(variables, alphas), order, hyper
    states, orders, hypers = jax.tree.map(lambda x: np.asarray(x)[None], member)
    states = train(states, orders, hypers, (weights_half, alpha_half), np.int32(stop))
    return jax.tree.map(lambda x: x[0], states)

  kernel = lambda state: np.asarray(state.params['network']['stem_conv']['kernel'])
  reference = after(2, pictures(0), pictures(1))
  assert int(reference.step) == 2
  np.testing.assert_array_equal(kernel(after(2, pictures(0), pictures(2))), kernel(reference))
  assert not np.array_equal(kernel(after(2, pictures(2), pictures(1))), kernel(reference))
  moved = [after(1, pictures(weights), pictures(alpha), 0.1) for weights, alpha in ((0, 1), (2, 1), (0, 2))]
  betas = [np.asarray(state.alphas['reduce']) for state in moved]
  np.testing.assert_array_equal(betas[0], betas[1])  # α of the first step has not seen the first half
  assert not np.array_equal(betas[0], betas[2])


def small_run():
  dataset = Dataset('cifar10', pictures(0), pictures(1), 4, (0.5,) * 3, (0.25,) * 3, in_order=True)
  config = default()
  config.supernet.channels, config.supernet.cells_per_stage, config.supernet.unroll = 2, 1, False
  config.search.epochs, config.search.batch_size = 2, 16
  return config, dataset


def tiny_run():
  """Quick to compile: cells of one node, a separable convolution or noise on its two edges."""
  config, dataset = small_run()
  config.space.name, config.space.nodes = 's4', 1
  config.supernet.layers = 1
  return config, dataset


def searched(config, dataset, path):
  """(outcome, result) of a run."""
  with Workdir(path, check(config).to_dict()) as workdir:
    outcome = search.run(config, dataset, None, workdir, threading.Event())
    return outcome, search.summarize(config, dataset, None, workdir, outcome, threading.Event())


def test_a_member_is_only_as_good_as_its_whole_state(tmp_path, monkeypatch):
  """Infinite running variances: training does not read them, and evaluation comes to finite losses."""
  config, dataset = tiny_run()
  config.population.seeds = 2
  build = search.build

  @jax.jit
  def spoil(states):
    spoiled = lambda path, x: x.at[1].set(np.inf) if path[-1].key == 'var' else x
    return states.replace(batch_stats=jax.tree_util.tree_map_with_path(spoiled, states.batch_stats))

  def build_and_spoil(*arguments):
    built = build(*arguments)
    train = built.train
    built.train = lambda *arguments: spoil(train(*arguments))
    return built

  monkeypatch.setattr(search, 'build', build_and_spoil)
  outcome, result = searched(config, dataset, tmp_path)
  assert all(np.isfinite(row['valid_loss']) for row in outcome.rows)
  assert [member['genotype'] is None for member in result['members']] == [False, True]
  assert result['settings'][0]['diverged'] == 1 and result['settings'][0]['valid_accuracy']['n'] == 1
  assert [path.parent.name for path in tmp_path.glob('members/*/genotype.json')] == ['0']


def test_a_population_is_its_members(tmp_path):
  """Rows, cells and results of two seeds times two λ are those of lone runs; a member that diverges is named."""
  config, dataset = tiny_run()
  config.search.alpha_learning_rate = 0.1
  config.population.seeds, config.population.learning_rate = 2, (0.025, 1e30)
  outcome, result = searched(config, dataset, tmp_path / 'population')
  assert [(m['seed'], m['learning_rate']) for m in result['members']] == [(0, 0.025), (1, 0.025), (0, 1e30), (1, 1e30)]
  assert [m['genotype'] is None for m in result['members']] == [False, False, True, True]
  assert [row['member'] for row in outcome.rows] == [0, 1, 2, 3] * 2
  assert json.loads((tmp_path / 'population' / 'metrics.jsonl').read_text().splitlines()[-1])['train_loss'] is None
  sane, wild = result['settings']
  assert (sane['diverged'], wild['diverged'], wild['valid_accuracy']['mean']) == (0, 2, None)
  accuracies = [member['valid_accuracy'] for member in result['members'][:2]]
  np.testing.assert_allclose(sane['valid_accuracy']['mean'], np.mean(accuracies))
  np.testing.assert_allclose(sane['valid_accuracy']['std'], np.std(accuracies, ddof=1))

  lone, dataset = tiny_run()
  lone.search.alpha_learning_rate, lone.search.seed = 0.1, 1
  alone, expected = searched(lone, dataset, tmp_path / 'lone')
  assert (
    expected['genotype']
    == result['members'][1]['genotype']
    == str(find_genotype(str(tmp_path / 'population' / 'members' / '1'))[0])
  )
  with pytest.raises(InputError, match='members/K'):
    find_genotype(str(tmp_path / 'population'))
  for row, other in zip(alone.rows, outcome.rows[1::4], strict=True):
    np.testing.assert_allclose(row['train_loss'], other['train_loss'], rtol=1e-4)
    chex.assert_trees_all_close(row['betas'], other['betas'], rtol=1e-4)


def test_nothing_compiles_after_the_first_epoch(tmp_path, monkeypatch):
  """Two more epochs, evaluation and checkpoints included: no second trace, no second compilation."""
  config, dataset = tiny_run()
  config.search.epochs = 3
  config.search.steps_per_dispatch, config.checkpoint.every_steps = 1, 1
  events, written = [], []
  append = MetricsFile.append
  monkeypatch.setattr(MetricsFile, 'append', lambda self, rows: (append(self, rows), written.append(len(events))))
  listen = lambda event, *_, **__: events.append(event) if event.startswith('/jax/core/compile/') else None
  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    searched(config, dataset, tmp_path)
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
  assert len(written) == 3 and written[0] > 0
  assert events[written[0] : written[2]] == []


def test_a_space_with_noise_searches_and_retrains(tmp_path):
  config, dataset = tiny_run()
  config.retrain.epochs, config.retrain.random_cells, config.retrain.batch_size = 1, 1, 32
  config.retrain.channels, config.retrain.layers = 2, 2
  programs.check_sizes(check(config), dataset)
  with Workdir(tmp_path, config.to_dict()) as workdir:
    outcome = search.run(config, dataset, None, workdir, threading.Event())
    result = search.summarize(config, dataset, None, workdir, outcome, threading.Event())
    space = programs.space_of(config)
    cells = comparison.compare(space, result['genotype'], dataset, config, workdir, threading.Event())
  assert str(space.parse(result['genotype'])) == result['genotype'] == outcome.rows[-1]['genotype']
  assert find_genotype(str(tmp_path)) == (space.parse(result['genotype']), False)
  assert len(cells['random']) == 1 and all(0 <= cell['test_accuracy'] <= 1 for cell in cells['random'])


def test_a_loss_that_becomes_infinite_leaves_the_last_good_checkpoint(tmp_path, monkeypatch):
  config, dataset = tiny_run()
  rate = programs.cosine
  monkeypatch.setattr(programs, 'cosine', lambda *args: rate(*args) if args[2] == 0 else float('nan'))
  with Workdir(tmp_path, check(config).to_dict()) as workdir:
    with pytest.raises(NonFiniteLoss, match=r'epoch 2, step [34] \(.*train_loss nan') as raised:
      search.run(config, dataset, None, workdir, threading.Event())
    assert '\n' not in str(raised.value)
    assert [f.name for f in (tmp_path / 'checkpoints').iterdir()] == ['2']
    monkeypatch.undo()
    outcome = search.run(config, dataset, None, workdir, threading.Event())  # the rate mended: it goes on
  assert int(outcome.states.step[0]) == 4 and len(outcome.rows) == 2


def test_a_run_beside_the_benchmark(tmp_path, capsys):
  rows = {line['arch']: Row(**{k: v for k, v in line.items() if k != 'arch'}) for line in made_up_lines()}
  table = NasBench201(rows)
  config, dataset = small_run()
  config.benchmark.kendall_cells, config.benchmark.kendall_images = 5, 32
  programs.check_sizes(check(config), dataset)
  with Workdir(tmp_path, config.to_dict()) as workdir:
    outcome = search.run(config, dataset, table, workdir, threading.Event())
    result = search.summarize(config, dataset, table, workdir, outcome, threading.Event())
  lines = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
  for line in lines:
    assert line['benchmark'] == table.summary(line['genotype'])
  assert result['benchmark'] == lines[-1]['benchmark'] and result['kendall_tau']['one_shot']['n'] == 5
  assert result['baselines']['all_nor_conv_3x3'] == rows[str(table.optimum('cifar10_test'))].cifar10_test
  accuracies = outcome.programs.one_shot(
    outcome.states, 0, [NAS_BENCH_201.one_hot(NAS_BENCH_201.parse(lines[0]['genotype']))], 32
  )
  assert accuracies.shape == (1,) and 0 <= accuracies[0] <= 1

  main.report(result, tmp_path)
  shown = capsys.readouterr().out
  assert 'α comes no further than' in shown
  for part in (result['genotype'], f'rank {result["benchmark"]["cifar10_test_rank"]} of 15,625', 'random cell', 'τ'):
    assert part in shown


def test_diagnostics_are_in_the_rows(tmp_path):
  """The cheap ones every epoch, the dear ones every second; θ is measured where there is a regularizer that decays."""
  config, dataset = tiny_run()
  config.space.operations = ('none', 'skip_connect', 'nor_conv_1x1')
  config.diagnostics.every_epochs, config.diagnostics.images = 2, 32
  outcome, result = searched(config, dataset, tmp_path)
  first, second = (row['diagnostics'] for row in outcome.rows)
  assert set(first) == {'shares', 'entropies', 'variances'} < set(second)
  assert len(first['entropies']['normal']) == 2 and 0 < first['entropies']['normal'][0] < np.log(3) + 1e-6
  eigenvalues = np.abs(second['eigenvalues'])
  assert len(eigenvalues) == 5 and np.all(np.diff(eigenvalues) <= 0) and eigenvalues[0] > 0
  assert 0 <= second['discrete_accuracy'] <= 1 and 0 <= second['continuous_accuracy'] <= 1
  theta, betas = np.array(second['theta']['reduce']), np.array(outcome.rows[-1]['betas']['reduce'])
  assert theta.shape == betas.shape and np.any(theta != 1)
  np.testing.assert_allclose((theta * betas).sum(-1), 1, atol=1e-3)  # both are distributions, a small step apart
  assert result['epoch'] == 1 and not result['stopped_early']


def test_early_stopping_ends_the_run(tmp_path, monkeypatch):
  """At its first cell with a skip connection; the same command finds it finished, and the cell is of that epoch."""
  config, dataset = tiny_run()
  config.space.operations = ('skip_connect', 'max_pool_3x3')
  config.search.epochs, config.early_stopping.skips = 6, 1
  counts = iter([0, 0, 2])
  monkeypatch.setattr(search.diagnostics, 'skips', lambda genotype: next(counts))
  outcome, result = searched(config, dataset, tmp_path)
  again, same = searched(config, dataset, tmp_path)  # as after a kill before result.json
  assert again.rows == outcome.rows and same['genotype'] == result['genotype']
  assert len(outcome.rows) == 3 and int(outcome.states.step[0]) == 6
  assert result['stopped_early'] and result['epoch'] == 2 and result['genotype'] == outcome.rows[2]['genotype']


def test_the_best_epochs_cell_is_kept(tmp_path):
  config, dataset = tiny_run()
  config.derivation.epoch, config.search.epochs = 'best', 3
  with Workdir(tmp_path, check(config).to_dict()) as workdir:
    outcome = search.run(config, dataset, None, workdir, threading.Event())
    for row, accuracy in zip(outcome.rows, (0.1, 0.9, 0.3), strict=True):
      row['valid_accuracy'] = accuracy
    result = search.summarize(config, dataset, None, workdir, outcome, threading.Event())
  assert result['epoch'] == 1 and result['valid_accuracy'] == 0.9


def test_derivation_by_perturbation_tunes_and_stops(tmp_path):
  """Between decisions an epoch of weight steps, α one-hot where decided; `stop` ends it, a loss that is none too."""
  config, dataset = tiny_run()
  config.space.operations = ('skip_connect', 'nor_conv_1x1')
  config.derivation.method, config.derivation.images = 'perturbation', 32
  with Workdir(tmp_path, check(config).to_dict()) as workdir:
    outcome = search.run(config, dataset, None, workdir, threading.Event())
    calls, tune = [], outcome.programs.tune
    outcome.programs.tune = lambda *arguments: calls.append((arguments, tune(*arguments))) or calls[-1][1]
    result = search.summarize(config, dataset, None, workdir, outcome, threading.Event())
    outcome.programs.tune = tune
    stop = threading.Event()
    stop.set()
    assert search.summarize(config, dataset, None, workdir, outcome, stop) is None
    with config.unlocked():
      config.derivation.learning_rate = 1e30
    with pytest.raises(NonFiniteLoss, match=r'derivation\.learning_rate=1e\+30'):
      search.summarize(config, dataset, None, workdir, outcome, threading.Event())
  space = programs.space_of(config)
  space.parse(result['genotype'])
  assert result['derivation'] == 'perturbation'
  assert len(calls) == 3  # four edges; nodes have two each, so none is dropped
  assert [arguments[1] for arguments, _ in calls] == [2, 3, 4]  # epochs of their own
  (_, _, k, betas, until), (state, finite) = calls[-1]
  assert (k, until, finite) == (0, 2 * 2 + 3 * 2, True) and int(state.step[0]) == until
  for name in space.cell_types:  # α stayed as it was given
    np.testing.assert_allclose(jax.nn.softmax(state.alphas[name][0]), betas[name], atol=1e-6)
  assert sum(int((betas[name] == 1).any(-1).sum()) for name in space.cell_types) == 3


METHODS = {
  'second order with PC-DARTS': {
    'hypergradient.method': 'second_order', 'relaxation.partial_channels': 2, 'relaxation.edge_normalization': True,
  },
  'GDAS': {'relaxation.sampling': 'gumbel', 'search.regularizers': ()},
  'SDARTS-ADV with DARTS-, flooding and everything on α': {
    'relaxation.perturbation': 'adversarial', 'relaxation.auxiliary_skip': True, 'search.flood_level': 0.5,
    'search.regularizers': ('decoupled_beta_decay', 'l2', 'weight_decay', 'lambda_darts'), 'search.l2_weight': 0.01,
    'search.alignment_weight': 0.1, 'search.alpha_warmup_epochs': 1,
  },
}  # fmt: skip


@pytest.mark.parametrize('name', METHODS)
def test_a_method_by_config_searches_and_resumes(name, tmp_path):
  """Stopped after the first epoch and started again it ends as if nothing had happened."""
  config, dataset = tiny_run()
  config.space.operations = ('none', 'skip_connect', 'nor_conv_1x1')
  config.supernet.channels = 4
  config.update_from_flattened_dict(METHODS[name])
  whole, _ = searched(config, dataset, tmp_path / 'whole')
  stop = threading.Event()
  with Workdir(tmp_path / 'torn', config.to_dict()) as workdir:
    stop.set()
    assert search.run(config, dataset, None, workdir, stop) is None
    torn = search.run(config, dataset, None, workdir, threading.Event())
  chex.assert_trees_all_equal(jax.device_get(torn.states), jax.device_get(whole.states))
  assert [row['genotype'] for row in torn.rows] == [row['genotype'] for row in whole.rows]


def test_members_stop_each_at_its_epoch(tmp_path, monkeypatch):
  """The run ends when all have stopped; diagnostics and λ, b are each member's."""
  config, dataset = tiny_run()
  config.space.operations = ('skip_connect', 'nor_conv_1x1')
  config.search.epochs, config.early_stopping.skips = 4, 1
  config.search.regularizers = ('beta_decay', 'l2')
  config.population.l2_weight, config.population.flood_level = (0.0, 1.0), (2.0,)
  config.diagnostics.every_epochs, config.diagnostics.images = 2, 32
  counts = iter([0, 1, 1, 0])
  monkeypatch.setattr(search.diagnostics, 'skips', lambda genotype: next(counts))
  outcome, result = searched(config, dataset, tmp_path)
  assert len(outcome.rows) == 4
  assert [(m['l2_weight'], m['epoch'], m['stopped_early']) for m in result['members']] == [(0, 1, True), (1, 0, True)]
  assert [m['genotype'] for m in result['members']] == [outcome.rows[2]['genotype'], outcome.rows[1]['genotype']]
  spectra = [row['diagnostics']['eigenvalues'] for row in outcome.rows[2:]]
  assert spectra[0] != spectra[1] and 'eigenvalues' not in outcome.rows[0]['diagnostics']
  for row in (json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()):
    assert np.isfinite(row['train_loss'])


@pytest.mark.parametrize('method', NAMED)
def test_every_named_method_runs_at_proxy_size(method, tmp_path):
  """configs/nas_bench_201.py, shrunk to images of 8×8, four channels, two nodes and two epochs of two steps."""
  config = runpy.run_path(str(CONFIG))['get_config'](f'cifar10,proxy,{method}')
  _, dataset = small_run()
  changes = {
    'supernet.channels': 4, 'supernet.unroll': False, 'search.epochs': 2, 'search.batch_size': 16,
    'space.nodes': 2, 'space.operations': ('none', 'skip_connect', 'nor_conv_1x1'),
    'search.evaluation_images': 0, 'benchmark.kendall_cells': 0,
    'search.alpha_warmup_epochs': int(config.search.alpha_warmup_epochs > 0),
  }  # fmt: skip
  config.update_from_flattened_dict(changes)
  outcome, result = searched(config, dataset, tmp_path)
  programs.space_of(config).parse(result['genotype'])
  assert all(np.isfinite(row['train_loss']) and np.isfinite(row['valid_loss']) for row in outcome.rows)


def test_shuffled_labels_reach_alpha_alone(tmp_path):
  """The weights see none of it while α rests; evaluation is on the true labels; when α moves, it moves elsewhere.

  A member of a population sees the labels of the lone run, which are dealt by its seed.
  """

  def outcome_of(shuffled, rate, **more):
    config, dataset = tiny_run()
    config.space.operations = ('skip_connect', 'nor_conv_1x1')
    config.search.shuffled_alpha_labels, config.search.alpha_learning_rate = shuffled, rate
    config.update_from_flattened_dict({name.replace('_', '.', 1): value for name, value in more.items()})
    return searched(config, dataset, tmp_path / f'{shuffled} {rate} {more}')[0]

  ends = {key: outcome_of(*key) for key in itertools.product((False, True), (0.0, 0.1))}
  still, still_shuffled = (ends[shuffled, 0.0] for shuffled in (False, True))
  chex.assert_trees_all_equal(jax.device_get(still.states.params), jax.device_get(still_shuffled.states.params))
  assert still.rows[-1]['valid_loss'] == still_shuffled.rows[-1]['valid_loss']
  assert still.rows[-1]['alpha_loss'] != still_shuffled.rows[-1]['alpha_loss']
  assert ends[False, 0.1].rows[-1]['betas'] != ends[True, 0.1].rows[-1]['betas']
  both, other = outcome_of(True, 0.1, population_seeds=2), outcome_of(True, 0.1, search_seed=1)
  for k, lone in enumerate((ends[True, 0.1], other)):
    np.testing.assert_allclose(both.rows[k]['alpha_loss'], lone.rows[0]['alpha_loss'], rtol=1e-4)


def test_alpha_stays_after_its_epochs(tmp_path):
  config, dataset = tiny_run()
  config.space.operations = ('skip_connect', 'nor_conv_1x1')
  config.search.epochs, config.search.alpha_epochs, config.search.alpha_learning_rate = 3, 2, 0.1
  outcome, _ = searched(config, dataset, tmp_path)
  betas = [row['betas'] for row in outcome.rows]
  assert betas[0] != betas[1] == betas[2]

"""The rows of metrics.jsonl: their schema, the diagnostics, and the members of a population."""

import json
import pathlib
import shutil
import types
import typing

import chex
import jax
import numpy as np
import pytest
from small_run import DATASET, final_state, make_config, read_rows, run

from beta_darts_jax import (
  NAS_BENCH_201,
  REGULARIZERS,
  Hyperparameters,
  InputError,
  export,
  load,
  run_search,
  softmax_betas,
)
from beta_darts_jax.config import default_retrain
from beta_darts_jax.config.check import check
from beta_darts_jax.data import record
from beta_darts_jax.method.diagnostics import make_one_shot
from beta_darts_jax.method.losses import cross_entropy
from beta_darts_jax.retrain import run as retrain_run
from beta_darts_jax.retrain.setup import make_retrain_setup
from beta_darts_jax.runtime.logs import Diagnostics, Progress, Row
from beta_darts_jax.runtime.workdir import Workdir
from beta_darts_jax.search.result import SearchResult
from beta_darts_jax.search.rows import describe_cell
from beta_darts_jax.search.setup import make_search_setup
from beta_darts_jax.spaces.lookup import find_genotype

EVERY_RUN = {'epoch', 'train_loss', 'train_accuracy', 'learning_rate', 'seconds', 'images_per_second'}
MEMBER = {'member', 'seed'}
SEARCH = {
  'alpha_loss', 'alpha_accuracy', 'beta_decay', 'beta_decay_weight', 'valid_loss', 'valid_accuracy', 'genotype',
  'skips', 'betas', 'diagnostics',
}  # fmt: skip
RETRAINING = {'test_loss', 'test_accuracy', 'test_top5_accuracy', 'drop_path_rate'}
CHEAP = {'shares', 'entropies', 'variances'}
EXPENSIVE = {'continuous_accuracy', 'discrete_accuracy', 'eigenvalues', 'theta'}
OPTIONS = {
  'space__operations': ('none', 'skip_connect', 'nor_conv_1x1'),
  'search__alpha_learning_rate': 0.1,
  'diagnostics__every_epochs': 2,
  'diagnostics__images': 32,
}


class Run(typing.NamedTuple):
  """A finished run."""

  path: typing.Any
  values: dict
  rows: list


def search(path, table=None, **changes):
  return Run(path, run(make_config(**changes), path, table), read_rows(path))


@pytest.fixture(scope='module')
def single(tmp_path_factory):
  """A search with diagnostics in the second of two epochs."""
  return search(tmp_path_factory.mktemp('single'), search__seed=1, **OPTIONS)


@pytest.fixture(scope='module')
def population(tmp_path_factory):
  """Two seeds times two learning rates; the searches of the second rate diverge."""
  return search(
    tmp_path_factory.mktemp('population'), population__seeds=2, population__learning_rate=(0.025, 1e30), **OPTIONS
  )


def matches(value, annotation) -> bool:
  """Whether a value that was read from JSON has the type of an annotation."""
  if typing.is_typeddict(annotation):
    hints = typing.get_type_hints(annotation)
    return isinstance(value, dict) and all(key in hints and matches(value[key], hints[key]) for key in value)
  origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
  if origin in (typing.Union, types.UnionType):
    return any(matches(value, argument) for argument in arguments)
  if origin is list:
    return isinstance(value, list) and all(matches(item, arguments[0]) for item in value)
  if origin is dict:
    return isinstance(value, dict) and all(matches(item, arguments[1]) for item in value.values())
  return annotation is typing.Any or type(value) is annotation


def check_rows(rows, keys, diagnostics_keys=()):
  """Checks the keys and the types of each row; a diverged member has no diagnostics."""
  for row in rows:
    has_diverged = 'genotype' in keys and row['genotype'] is None
    assert set(row) == keys - ({'diagnostics'} if has_diverged else set())
    hints = typing.get_type_hints(Row)
    wrong = {key: value for key, value in row.items() if not matches(value, hints[key])}
    assert not wrong
    if 'diagnostics' in row:
      assert set(row['diagnostics']) == (CHEAP if row['epoch'] == 0 else diagnostics_keys)


def test_the_schema_has_no_other_keys():
  assert set(Row.__annotations__) == EVERY_RUN | MEMBER | SEARCH | RETRAINING | {
    'benchmark',
    'regularizer_weights',
    'cost',
  }
  assert set(Diagnostics.__annotations__) == CHEAP | EXPENSIVE | {'kendall_tau'}


def test_the_line_of_an_epoch_fits_and_shows_the_cell_only_if_it_changed(capsys):
  setup = types.SimpleNamespace(
    dataset_name='cifar10', is_population=False, members=[None],
    parts=types.SimpleNamespace(regularizers=[REGULARIZERS['beta_decay']]),
    hyperparameters=lambda member, epoch: Hyperparameters(beta_decay_weight=epoch / 2),
  )  # fmt: skip
  benchmark = {'cifar10_test': 94.36, 'cifar10_test_rank': 12345}
  row = {'epoch': 99, 'genotype': 'cell', 'skips': 3, 'benchmark': benchmark, 'seconds': 64800.0}
  row |= dict.fromkeys(('train_loss', 'valid_loss'), 2.3) | dict.fromkeys(('train_accuracy', 'valid_accuracy'), 0.1)
  note = describe_cell(setup, row, 99, [{'genotype': 'cell'}])
  assert note == 'cell 94.36 % rank 12345  skips 3  λ 49.5'
  assert describe_cell(setup, row, 99, [{'genotype': 'other'}]) == f'{note}\n  cell'
  diverged = {'genotype': None, 'skips': None}
  assert describe_cell(setup, diverged, 0, []) == 'λ 0'
  setup.parts.regularizers.append(types.SimpleNamespace(weight='spread_weight'))
  setup.hyperparameters = lambda *_: Hyperparameters(beta_decay_weight=2.0, regularizer_weights={'spread_weight': 0.5})
  assert describe_cell(setup, diverged, 0, []) == 'λ beta_decay 2, spread 0.5'
  with Progress(epochs=101, steps=1) as progress:
    progress.epoch([row], note)
  assert len(capsys.readouterr().out.rstrip()) <= 120


def test_rows_of_a_search_have_the_schema(single):
  check_rows(single.rows, EVERY_RUN | SEARCH, CHEAP | EXPENSIVE)


@pytest.mark.full
def test_rows_of_a_population_have_the_schema(population):
  check_rows(population.rows, EVERY_RUN | SEARCH | MEMBER, CHEAP | EXPENSIVE)


def test_rows_of_a_retraining_have_the_schema(tmp_path):
  config = default_retrain()
  changes = {
    'network.stem': 'nas_bench_201', 'network.channels': 2, 'network.cells_per_stage': 1,
    'network.auxiliary_weight': 0.0, 'data.crop_padding': 1, 'data.cutout': 0, 'train.epochs': 2,
    'train.batch_size': 32,
  }  # fmt: skip
  config.update_from_flattened_dict(changes)
  genotype = NAS_BENCH_201.parse('|nor_conv_1x1~0|+|skip_connect~0|none~1|+|none~0|none~1|skip_connect~2|')
  setup = make_retrain_setup(check(config), genotype, DATASET)
  with Workdir(tmp_path, config.to_dict(), data=record(DATASET)) as workdir:
    result = retrain_run.run(setup, DATASET, workdir)
  rows = read_rows(tmp_path)
  check_rows(rows, EVERY_RUN | RETRAINING)
  assert [row['drop_path_rate'] for row in rows] == pytest.approx([0.0, 0.1])
  assert result.genotype == genotype and result.test_accuracy == rows[-1]['test_accuracy']

  network, (images, labels) = load(tmp_path), DATASET.test
  assert np.mean(np.argmax(network(images), axis=-1) == labels) == pytest.approx(result.test_accuracy)
  assert network.genotype == genotype and network.classes == ('0', '1', '2', '3')
  with pytest.raises(InputError, match=r'images are float64 \[64, 8, 8, 3\]: expected uint8 \[B, 8, 8, 3\]'):
    network(images / 255)
  config = json.loads((tmp_path / 'config.json').read_text())
  config['data']['source'] = 'imagenet2012'  # whose pictures are cropped
  (tmp_path / 'config.json').write_text(json.dumps(config))
  assert (network.resize, load(tmp_path).resize) == (0, 256)
  exported = export(tmp_path, 'torch', tmp_path / 'exported')
  facts = json.loads((exported / 'classes.json').read_text())
  assert (facts['classes'], facts['genotype']) == (list('0123'), str(genotype)) and facts['mean'] == [0.5] * 3
  assert facts['resize'] == 256


def test_a_run_of_an_older_version_may_lack_a_key_and_have_the_name_of_a_cell(single, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  folder = shutil.copytree(single.path, 'GDAS')
  config = json.loads(pathlib.Path(folder, 'config.json').read_text())
  del config['population']['damping'], config['data']['crops']
  pathlib.Path(folder, 'config.json').write_text(json.dumps(config))
  result = run_search(make_config(search__seed=1, **OPTIONS), folder)
  assert str(result.genotype) == single.values['genotype'] == str(load(folder).genotype)


def test_a_search_loads_as_its_supernet_restricted_to_its_cell(single):
  """Its accuracy is the one-shot accuracy of the cell."""
  setup = make_search_setup(make_config(search__seed=1, **OPTIONS), DATASET)
  network, (images, labels) = load(single.path), DATASET.test
  variables = jax.tree.map(lambda x: x[0], {name: final_state(single.path)[name] for name in ('params', 'batch_stats')})
  one_shot = make_one_shot(setup.supernet, DATASET.normalize)
  (expected,) = one_shot(variables, [setup.space.one_hot(network.genotype)], images, labels)
  assert np.mean(np.argmax(network(images), axis=-1) == labels) == pytest.approx(expected)
  assert str(network.genotype) == single.values['genotype'] and network.image_shape == (8, 8, 3)


def test_the_validation_loss_is_that_of_the_supernet_at_the_mean_betas(single):
  setup = make_search_setup(make_config(search__seed=1, **OPTIONS), DATASET)
  state = final_state(single.path)
  params, batch_stats, alphas = (
    jax.tree.map(lambda x: x[0], state[name]) for name in ('params', 'batch_stats', 'alphas')
  )
  images, labels = DATASET.search_splits()[1]  # α's half
  logits = setup.supernet.apply(
    {'params': params, 'batch_stats': batch_stats}, DATASET.normalize(images), softmax_betas(alphas)
  )
  assert single.rows[-1]['valid_loss'] == pytest.approx(float(cross_entropy(logits, labels)), rel=1e-4)


@pytest.mark.full
def test_a_member_of_a_population_loads_as_the_single_search(population, single):
  logits = [load(path)(DATASET.test[0]) for path in (single.path, population.path / 'members' / '1')]
  np.testing.assert_allclose(*logits, rtol=1e-3, atol=1e-4)
  with pytest.raises(InputError, match='members/K'):
    load(population.path)


def test_diagnostics_of_a_search(single):
  """The cheap ones are in every row, the expensive ones in every second row."""
  first, second = (row['diagnostics'] for row in single.rows)
  assert len(first['entropies']['normal']) == 2 and 0 < first['entropies']['normal'][0] < np.log(3) + 1e-6
  eigenvalues = np.abs(second['eigenvalues'])
  assert len(eigenvalues) == 5 and np.all(np.diff(eigenvalues) <= 0) and eigenvalues[0] > 0
  assert 0 <= second['discrete_accuracy'] <= 1 and 0 <= second['continuous_accuracy'] <= 1
  theta, betas = np.array(second['theta']['reduce']), np.array(single.rows[-1]['betas']['reduce'])
  assert theta.shape == betas.shape and np.any(theta != 1)
  np.testing.assert_allclose((theta * betas).sum(-1), 1, atol=0.02)  # both are distributions, one step apart
  assert single.values['epoch'] == 1 and not single.values['stopped_early']


@pytest.mark.full
def test_members_of_a_population_equal_single_searches(population, single):
  """Rows, cells and results are those of single searches. Statistics name the members that diverge."""
  members = population.values['members']
  assert [(m['seed'], m['learning_rate']) for m in members] == [(0, 0.025), (1, 0.025), (0, 1e30), (1, 1e30)]
  assert [m['genotype'] is None for m in members] == [False, False, True, True]
  assert [row['member'] for row in population.rows] == [0, 1, 2, 3] * 2
  assert population.rows[-1]['train_loss'] is None
  converged, diverged = population.values['settings']
  assert (converged['diverged'], diverged['diverged'], diverged['valid_accuracy']['mean']) == (0, 2, None)
  accuracies = [member['valid_accuracy'] for member in members[:2]]
  np.testing.assert_allclose(converged['valid_accuracy']['mean'], np.mean(accuracies))
  np.testing.assert_allclose(converged['valid_accuracy']['std'], np.std(accuracies, ddof=1))

  text = str(SearchResult(population.path, population.values))
  assert text.count('seed 1') == 2 and members[1]['genotype'] in text and '2 diverged' in text

  found, _ = find_genotype(str(population.path / 'members' / '1'))
  assert single.values['genotype'] == members[1]['genotype'] == str(found)
  with pytest.raises(InputError, match='members/K'):
    find_genotype(str(population.path))
  for row, other in zip(single.rows, population.rows[1::4], strict=True):
    np.testing.assert_allclose(row['train_loss'], other['train_loss'], rtol=1e-4)
    chex.assert_trees_all_close(row['betas'], other['betas'], rtol=1e-4)


@pytest.mark.full
def test_a_search_with_a_benchmark(tmp_path, made_up_table):
  """Each row has the benchmark's numbers of its cell and Kendall's τ; the result has the baselines."""
  done = search(
    tmp_path, made_up_table,
    space__name='nas_bench_201', space__nodes=0, space__operations=(), supernet__cells_per_stage=1,
    benchmark__kendall_cells=5, benchmark__kendall_images=32, diagnostics__every_epochs=2, diagnostics__images=32,
    diagnostics__kendall_cells=5,
  )  # fmt: skip
  check_rows(done.rows, EVERY_RUN | SEARCH | {'benchmark'}, CHEAP | EXPENSIVE | {'kendall_tau'})
  for row in done.rows:
    assert row['benchmark'] == made_up_table.summary(row['genotype'])
  assert done.values['benchmark'] == done.rows[-1]['benchmark']
  assert done.values['kendall_tau']['one_shot']['n'] == 5
  assert done.values['kendall_tau'] == done.rows[-1]['diagnostics']['kendall_tau']
  text = str(SearchResult(tmp_path, done.values))
  assert done.values['genotype'] in text and 'of 15,625' in text and 'random cell' in text and 'τ' in text
  assert (
    done.values['baselines']['all_nor_conv_3x3'] == made_up_table[made_up_table.optimum('cifar10_test')].cifar10_test
  )

import importlib.util
import json
import pathlib
import runpy

import jax
import jax.numpy as jnp
import pytest

from beta_darts_jax import NAS_BENCH_201, InputError, Relaxation, Supernet
from beta_darts_jax.config import DEFAULTS, default, default_retrain, described
from beta_darts_jax.config.check import check, without_effect
from beta_darts_jax.method.hypergradients import second_order
from beta_darts_jax.search.programs import hyperparameters, parts_of, settings_of, space_of, supernet_of

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'


def config(name, *arguments):
  spec = importlib.util.spec_from_file_location(name, CONFIGS / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  made = check(module.get_config(*arguments))
  assert not without_effect(made)
  return made


@pytest.mark.parametrize(
  'of',
  [
    ('digits',),
    ('nas_bench_201', 'cifar10,proxy,pc_darts'),
    ('robust_darts', 's2,cifar10,proxy'),
    ('retrain_imagenet',),
  ],
)
def test_a_run_gives_its_config_back(of, tmp_path):
  kept = config(*of).to_dict()
  kept['parallel'] |= {'coordinator': 'localhost:1', 'processes': 2, 'process': 1}  # which each process is told anew
  (tmp_path / 'config.json').write_text(json.dumps(kept))
  for run in (tmp_path, tmp_path / 'config.json'):
    assert config('again', str(run)).to_dict() == config(*of).to_dict()
  (tmp_path / 'config.json').write_text('{"task": "other"}')
  with pytest.raises(InputError, match='allowed is the folder of a run'):
    config('again', str(tmp_path))


@pytest.mark.parametrize('dataset', ['cifar10', 'cifar100'])
def test_the_official_protocol(dataset):
  full = config('nas_bench_201', dataset)
  assert full.data.to_dict() == {
    'source': dataset, 'data_dir': '', 'image_size': 0, 'part': 'all', 'fraction': 1.0, 'crop_padding': 4, 'flip': True,
    'cutout': 0,
  }  # fmt: skip
  assert {'channels': 16, 'cells_per_stage': 5, 'dtype': 'float32'}.items() <= full.supernet.to_dict().items()
  assert full.space.to_dict() == {'name': 'nas_bench_201', 'nodes': 0, 'operations': (), 'auxiliary_skip': False}
  published = {
    'epochs': 100, 'batch_size': 64, 'learning_rate': 0.025, 'learning_rate_min': 0.001, 'momentum': 0.9,
    'weight_decay': 3e-4, 'clip_norm': 5.0, 'alpha_learning_rate': 3e-4, 'alpha_betas': (0.5, 0.999),
    'alpha_weight_decay': 1e-3, 'beta_decay_weight': 50.0,
  }  # fmt: skip
  assert published.items() <= full.search.to_dict().items()


def test_every_value_is_described_and_the_page_is_current():
  for task, make in DEFAULTS.items():
    found = described(task)
    assert len(found) == len(set(name for name, _, _ in found)) == str(flat(make().to_dict())).count('leaf')
    assert all(meaning for _, _, meaning in found), [name for name, _, meaning in found if not meaning]
  page = runpy.run_path(str(CONFIGS.parent / 'docs' / 'configuration.py'))['page']()
  assert (CONFIGS.parent / 'docs' / 'configuration.md').read_text() == page, 'run python docs/configuration.py'


def flat(tree):
  return {name: flat(value) if isinstance(value, dict) else 'leaf' for name, value in tree.items()}


def test_other_data_sets():
  imagenet = config('nas_bench_201', 'imagenet16_120')
  assert imagenet.data.crop_padding == 2 and imagenet.data.flip
  svhn = config('nas_bench_201', 'svhn')
  assert svhn.data.source == 'svhn_cropped' and not svhn.data.flip


def test_proxy_keeps_alphas_time():
  """S = 10·390 steps of rate 3e-3: λ_max = 50·S·η/11.73, b2 = 1 − 39.1/S."""
  proxy = config('nas_bench_201', 'cifar10,proxy')
  assert proxy.search.beta_decay_weight == pytest.approx(49.87, abs=0.01)
  assert proxy.search.alpha_betas == pytest.approx((0.5, 0.98997), abs=1e-5)
  assert proxy.name != config('nas_bench_201', 'cifar10').name


def test_digits():
  assert config('digits').data.source == 'digits'


METHODS = [
  'beta_darts', 'beta_darts_plus_plus', 'beta_rdarts_l2', 'beta_sdarts_rs', 'darts', 'darts_second_order', 'rdarts_l2',
  'sdarts_rs', 'sdarts_adv', 'pc_darts', 'gdas', 'drnas', 'darts_minus', 'lambda_darts',
]  # fmt: skip


@pytest.mark.parametrize('method', METHODS)
def test_the_methods_of_the_tables(method):
  """A config of its own, at both sizes; what differs from DARTS is what its name says."""
  full, proxy = config('nas_bench_201', f'cifar10,{method}'), config('nas_bench_201', f'cifar10,proxy,{method}')
  assert full.name != proxy.name and (full.supernet.cells_per_stage, proxy.supernet.cells_per_stage) == (5, 1)
  parts = parts_of(full)
  assert [r.weight for r in parts['regularizer']] == (
    ['beta_decay_weight'] * method.startswith('beta') + ['alignment_weight'] * (method == 'lambda_darts')
  )
  assert (parts['hypergradient'].func is second_order) == (method == 'darts_second_order')
  assert parts['flooding'] == (method == 'beta_darts_plus_plus')
  assert parts['relaxation'] == {
    'beta_sdarts_rs': Relaxation(perturbation='random'),
    'sdarts_rs': Relaxation(perturbation='random'),
    'sdarts_adv': Relaxation(perturbation='adversarial'),
    'pc_darts': Relaxation(edges=NAS_BENCH_201.edges),
    'gdas': Relaxation('gumbel'),
    'drnas': Relaxation('dirichlet'),
    'darts_minus': Relaxation(auxiliary_skip=True),
  }.get(method, Relaxation())
  supernet = supernet_of(full, 10)
  assert (supernet.partial_channels, supernet.sampled) == (4 if method == 'pc_darts' else 1, method == 'gdas')
  assert full.search.weight_decay == (81e-4 if method.endswith('rdarts_l2') else 3e-4)
  assert (full.search.alpha_warmup_epochs, proxy.search.alpha_warmup_epochs) == ((30, 3) if 'pc_' in method else (0, 0))


def test_a_value_that_nothing_reads_is_named():
  changed = default()
  changed.supernet.layers, changed.hypergradient.terms, changed.relaxation.epsilon = 3, 5, 0.1
  said = without_effect(changed)
  assert (
    len(said) == 3 and 'config.supernet.layers=3 has no effect: it is read with config.space.name=darts or' in said[2]
  )
  changed.relaxation.perturbation = 'random'
  assert len(without_effect(changed)) == 2
  changed.hypergradient.method, changed.hypergradient.solver, changed.hypergradient.rate = 'implicit', 'cg', 0.1
  assert 'config.hypergradient.rate=0.1 has no effect: it is read with config.hypergradient.solver=neumann' in (
    without_effect(changed)
  )
  training = default_retrain()
  training.network.cells_per_stage = 3
  assert without_effect(training) == [
    'config.network.cells_per_stage=3 has no effect: it is read with config.network.stem=nas_bench_201'
  ]


def test_schedules_of_the_methods():
  """ε 0.03 + 0.27·e/E, τ from 10 to 0.1, the auxiliary skip from 1 to 0, α at rest until it may move."""
  pc = settings_of(config('nas_bench_201', 'cifar10,pc_darts'), {})
  values = [hyperparameters(pc, epoch) for epoch in (0, 29, 30, 50)]
  assert [v.alpha_learning_rate for v in values] == [0.0, 0.0, 3e-4, 3e-4]
  assert (values[0].perturbation, values[0].temperature, values[0].auxiliary_skip) == (0.03, 10.0, 1.0)
  assert [values[3].perturbation, values[3].temperature, values[3].auxiliary_skip] == pytest.approx([0.165, 5.05, 0.5])
  assert values[3].epoch == 50
  of_rates = settings_of(config('digits'), {'alpha_rate_factors': (1.0,) * 19 + (0.25,)})
  assert [hyperparameters(of_rates, epoch).alpha_learning_rate for epoch in (18, 19)] == [0.015, 0.015 / 4]


def test_lambda_is_0_where_no_regularizer_asks_for_it():
  """So that metrics.jsonl says what was done."""
  without = default()
  without.search.regularizers = ('l2',)
  hyper = hyperparameters(settings_of(without, {}), 50)
  assert without.search.beta_decay_weight == 50 and hyper.beta_decay_weight == 0.0


REFUSED = {
  'search.regularizers': (('beta_decay', 'l3'), 'allowed are different ones of beta_decay, decoupled_beta_decay, '),
  'profile': ('5:5', 'allowed is .*, or START:STOP with two rising numbers of steps'),
  'search.alpha_rate_factors': (
    (1.0, 0.5),
    r'allowed is \(\), or a number >= 0 for each of config\.search\.epochs=100',
  ),
  'search.l2_weight': (0.1, r'allowed with l2 or weight_decay in config\.search\.regularizers'),
  'relaxation.partial_channels': (3, r'divisors of config\.supernet\.channels=16'),
  'early_stopping.eigenvalue_ratio': (0.75, r'allowed with diagnostics\.every_epochs > 0'),
  'hypergradient.method': ('third_order', 'allowed are first_order, second_order'),
  'search.alpha_warmup_epochs': (100, r'allowed is less than config\.search\.epochs=100'),
  'diagnostics.every_epochs': (101, r'allowed is up to config\.search\.epochs=100'),
  'diagnostics.kendall_cells': (10, r'allowed with diagnostics\.every_epochs > 0'),
  'relaxation.temperature_min': (0.0, 'allowed is a number > 0'),
}


@pytest.mark.parametrize('name', REFUSED)
def test_what_the_parts_refuse(name):
  value, message = REFUSED[name]
  refused = default()
  refused.update_from_flattened_dict({name: value})
  with pytest.raises(InputError, match=rf'config\.{name}=.*{message}'):
    check(refused)


def test_combinations_that_contradict_each_other():
  skips = default()
  skips.space.name, skips.space.auxiliary_skip, skips.relaxation.auxiliary_skip = 'darts', True, True
  with pytest.raises(InputError, match=r'allowed with config\.space\.auxiliary_skip=False'):
    check(skips)
  perturbed = default()
  perturbed.derivation.method, perturbed.derivation.epoch = 'perturbation', 'best'
  with pytest.raises(InputError, match=r"derivation\.epoch='last'"):
    check(perturbed)
  short = default()
  short.search.epochs, short.diagnostics.every_epochs, short.early_stopping.eigenvalue_ratio = 8, 1, 0.75
  with pytest.raises(InputError, match=r'eigenvalue_window=5: allowed is up to half of the 8 epochs'):
    check(short)
  idle = default()
  idle.search.regularizers = ('lambda_darts',)
  with pytest.raises(InputError, match=r'config\.search\.alignment_weight=0: allowed is a number > 0'):
    check(idle)
  odd = default()
  odd.search.regularizers = ([],)
  with pytest.raises(InputError, match=r'config\.search\.regularizers=\(\[\],\): allowed are'):
    check(odd)
  narrow = default()
  narrow.space.name, narrow.supernet.channels, narrow.relaxation.partial_channels = 'darts', 4, 4
  with pytest.raises(InputError, match='that leave two or more'):
    check(narrow)


@pytest.mark.parametrize('argument', ['mnist', 'cifar10,tiny', 'cifar10,proxy,proxy', 'cifar10,darts,proxy'])
def test_unknown_arguments(argument):
  with pytest.raises(InputError, match='DATASET one of cifar10'):
    config('nas_bench_201', argument)


@pytest.mark.parametrize('dataset', ['cifar10', 'cifar100', 'svhn'])
def test_the_darts_protocol(dataset):
  darts = config('darts', dataset)
  assert (darts.space.name, darts.supernet.channels, darts.supernet.layers) == ('darts', 16, 8)
  assert (darts.search.epochs, darts.search.batch_size, darts.search.beta_decay_weight) == (50, 64, 25.0)
  assert darts.search.to_dict().items() >= {'weight_decay': 3e-4, 'alpha_learning_rate': 3e-4}.items()


def test_the_darts_proxy_keeps_alphas_time():
  """S = 10·39 steps of rate 0.015 are 5.85, the official 50·390·3e-4."""
  proxy = config('darts', 'cifar10,proxy')
  assert proxy.search.beta_decay_weight == pytest.approx(25, abs=0.01)
  assert proxy.search.alpha_betas == pytest.approx((0.5, 0.95), abs=1e-5)


SUITE = [f'{space},{ops}' for space in ('wide', 'deep', 'single_cell') for ops in ('regular', 'no_skip', 'all_skip')]


@pytest.mark.parametrize('argument', SUITE)
def test_darts_bench_suite_is_nine_spaces(argument):
  searched, trained = config('darts_bench_suite', argument), config('darts_bench_suite', f'{argument},retrain')
  space = space_of(searched)
  assert space.nodes == (8 if 'single' in argument else 4) and space.auxiliary_skip == ('all_skip' in argument)
  assert ('skip_connect' in space.operation_names) == ('no_skip' not in argument)
  assert {searched.data.part, trained.data.part} == {'first half', 'second half'}
  assert trained.network.layers == searched.supernet.layers == {'w': 4, 'd': 18, 's': 1}[argument[0]]
  supernet = Supernet(space, 10, channels=4, layers=1)  # one reduction cell
  betas = {cell_type: jnp.zeros(space.alpha_shape) for cell_type in space.cell_types}
  variables = jax.eval_shape(supernet.init, jax.random.key(0), jnp.zeros((2, 8, 8, 3)), betas)
  assert variables['params']['network']['classifier']['kernel'].shape == (8 * len(space.concat), 10)


@pytest.mark.parametrize('space', ['s1', 's2', 's3', 's4'])
def test_robust_darts(space):
  assert space_of(config('robust_darts', f'{space},cifar100')).name == space


def test_the_retraining_protocols():
  cifar, imagenet = config('retrain_cifar10'), config('retrain_imagenet')
  assert cifar.train.to_dict().items() >= {
    'epochs': 600, 'batch_size': 96, 'learning_rate': 0.025, 'weight_decay': 3e-4, 'momentum': 0.9, 'clip_norm': 5.0,
    'drop_path_rate': 0.2, 'nesterov': False, 'label_smoothing': 0.0, 'ema_decay': 0.0,
  }.items()  # fmt: skip
  assert (cifar.network.channels, cifar.network.layers, cifar.network.auxiliary_weight) == (36, 20, 0.4)
  assert cifar.data.cutout == 16 and config('retrain_cifar100').data.source == 'cifar100'
  assert imagenet.train.to_dict().items() >= {
    'epochs': 250, 'batch_size': 1024, 'learning_rate': 0.5, 'weight_decay': 3e-5, 'label_smoothing': 0.1,
    'warmup_epochs': 5, 'drop_path_rate': 0.0, 'schedule': 'linear_tail', 'clip_norm': 5.0,
  }.items()  # fmt: skip
  assert (imagenet.network.channels, imagenet.network.layers, imagenet.network.auxiliary_weight) == (48, 14, 0.0)
  assert config('retrain_nas_bench_201', 'cifar100').train.nesterov


def test_a_config_has_all_keys_and_no_other():
  extra = default()
  extra.search.surplus = 1
  with pytest.raises(InputError, match=r'unknown config\.search\.surplus: allowed are alignment_schedule'):
    check(extra)
  torn = default()
  del torn.search.seed
  with pytest.raises(InputError, match=r'config\.search\.seed is missing'):
    check(torn)

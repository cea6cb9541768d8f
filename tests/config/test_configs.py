"""The files in configs/."""

import importlib.util
import itertools
import json
import pathlib

import jax
import jax.numpy as jnp
import pytest

from beta_darts_jax import InputError, Supernet
from beta_darts_jax.config import flatten, ignored_options
from beta_darts_jax.config.check import check
from beta_darts_jax.config.named_methods import METHODS
from beta_darts_jax.spaces.space import make_space

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'


def module(name):
  spec = importlib.util.spec_from_file_location(name, CONFIGS / f'{name}.py')
  loaded = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(loaded)
  return loaded


def config(name, *arguments):
  """The checked config of a file; nothing that it sets is ignored."""
  made = check(module(name).get_config(*arguments))
  assert not ignored_options(made)
  return made


SPACES = {name: module(name) for name in ('nas_bench_201', 'darts')}
WITH_CELLS = ('pc_darts', 'darts_minus', 'lambda_darts')  # methods that need them
OWN = [(name, f'cifar10,{method},own') for name, file in SPACES.items() for method in file.OWN]
HERE = [(name, f'cifar10,{method}') for name, file in SPACES.items() for method in file.HERE]
NAMED = [(f, f'cifar10,{size}{m}') for f in SPACES for size in ('', 'proxy,') for m in METHODS]
SUITE = [f'{space},{ops}' for space in ('wide', 'deep', 'single_cell') for ops in ('regular', 'no_skip', 'all_skip')]

DARTS_PT = {
  'derivation.method': 'perturbation', 'derivation.train_alpha': True, 'derivation.tune_epochs': 5,
  'derivation.learning_rate': 0.0025, 'derivation.reset_optimizer': True, 'derivation.images': 0,
  'derivation.augment': True,
}  # fmt: skip
SDARTS = {'relaxation.epsilon': 0.03, 'relaxation.epsilon_max': 0.3, 'search.batch_size': 0}
# Values of the papers and the official programs, to be compared by eye.
OFFICIAL = {
  ('nas_bench_201', 'cifar10'): {
    'data.crop_padding': 4, 'data.flip': True, 'data.cutout': 0, 'supernet.channels': 16,
    'supernet.cells_per_stage': 5, 'search.epochs': 100, 'search.batch_size': 0, 'search.learning_rate': 0.025,
    'search.learning_rate_min': 0.001, 'search.momentum': 0.9, 'search.weight_decay': 3e-4, 'search.clip_norm': 5.0,
    'search.alpha_learning_rate': 3e-4, 'search.alpha_betas': (0.5, 0.999), 'search.alpha_weight_decay': 1e-3,
    'search.beta_decay_weight': 50.0, 'search.beta_decay_schedule': 'per_step',
  },
  ('darts', 'cifar10'): {
    'space.name': 'darts', 'supernet.channels': 16, 'supernet.layers': 8, 'search.epochs': 50,
    'search.batch_size': 0, 'search.beta_decay_weight': 50.0, 'search.beta_decay_schedule': 'per_step',
  },
  ('nas_bench_201', 'cifar10,gdas,own'): {
    'search.epochs': 250, 'search.weight_optimizer': 'weight_sgd_nesterov', 'search.weight_decay': 5e-4,
    'search.order': 'weights_first', 'relaxation.undrawn_gradient': True, 'relaxation.temperature': 10.0,
    'relaxation.temperature_min': 0.1,
  },
  ('nas_bench_201', 'cifar10,gdas'): {'relaxation.undrawn_gradient': True, 'relaxation.sampling': 'gumbel'},
  ('nas_bench_201', 'cifar10,pc_darts'): {'search.alpha_warmup_epochs': 30, 'search.epochs': 100},
  ('nas_bench_201', 'cifar10,darts_pt,own'): DARTS_PT,
  ('darts', 'cifar10,darts_pt,own'): DARTS_PT,
  **{
    (space, f'cifar10,sdarts_{kind},own'): SDARTS | {'relaxation.perturbation': name, 'search.epochs': epochs}
    for space, epochs in (('nas_bench_201', 100), ('darts', 50))
    for kind, name in (('rs', 'random'), ('adv', 'adversarial'))
  },
  ('nas_bench_201', 'cifar10,lambda_darts,own'): {
    'search.alpha_learning_rate': 1e-4, 'search.alignment_weight': 0.25, 'search.alignment_schedule': 'linear_to_last',
    'search.order': 'weights_first', 'search.epochs': 100,
  },
  ('darts', 'cifar10,pc_darts,own'): {
    'space.name': 'darts_with_none', 'search.batch_size': 256, 'search.learning_rate': 0.1,
    'search.learning_rate_min': 0.0, 'search.alpha_learning_rate': 6e-4, 'search.alpha_warmup_epochs': 15,
    'search.epochs': 50, 'relaxation.partial_channels': 4,
  },
  ('darts', 'cifar10,pc_darts'): {'search.alpha_warmup_epochs': 15, 'search.epochs': 50},
  ('darts', 'cifar10,drnas'): {'relaxation.sampling': 'pathwise_dirichlet', 'relaxation.strength': 'softmax'},
  ('darts', 'cifar10,lambda_darts'): {'search.order': 'alpha_first', 'search.alignment_weight': 0.125},
  ('darts', 'cifar10,lambda_darts,own'): {
    'search.order': 'alpha_first', 'search.alignment_weight': 0.25, 'search.alignment_schedule': 'linear_to_last',
    'search.batch_size': 96, 'search.alpha_learning_rate': 3e-4, 'search.epochs': 50,
  },
  ('darts', 'cifar10,gdas,own'): {
    'space.name': 'darts_with_none', 'supernet.channels': 16, 'supernet.layers': 6, 'search.epochs': 250,
    'search.batch_size': 256, 'search.learning_rate': 0.025, 'search.learning_rate_min': 0.001,
    'search.weight_decay': 5e-4, 'search.weight_optimizer': 'weight_sgd_nesterov', 'search.order': 'weights_first',
    'search.alpha_learning_rate': 3e-4, 'relaxation.temperature': 10.0, 'relaxation.temperature_min': 0.1,
    'relaxation.undrawn_gradient': False,
  },
  ('darts', 'cifar10,fair_darts,own'): {
    'relaxation.sampling': 'sigmoid', 'search.zero_one_weight': 10.0, 'search.epochs': 50, 'search.batch_size': 128,
    'search.learning_rate': 0.005, 'search.learning_rate_min': 0.001, 'search.weight_decay': 3e-4,
    'search.alpha_learning_rate': 3e-3, 'search.alpha_betas': (0.9, 0.999), 'search.alpha_weight_decay': 1e-3,
  },
  ('darts', 'cifar10,darts_minus,own'): {
    'relaxation.auxiliary_skip': True, 'search.epochs': 50, 'search.learning_rate': 0.025,
  },
  ('darts', 'cifar10,oles,own'): {
    'space.name': 'darts_with_none', 'search.weight_optimizer': 'weight_sgd_oles', 'search.epochs': 50,
  },
  ('darts_imagenet', 'pc_darts'): {  # the official program of PC-DARTS for ImageNet
    'data.fraction': 0.1, 'data.alpha_fraction': 0.025, 'data.image_size': 224, 'data.crop_scale': (0.08, 1.0),
    'data.color_jitter': (0, 0, 0, 0), 'space.name': 'darts_with_none', 'supernet.channels': 16, 'supernet.layers': 8,
    'supernet.stem': 'imagenet', 'relaxation.partial_channels': 2, 'relaxation.edge_normalization': True,
    'search.epochs': 50, 'search.batch_size': 1024, 'search.learning_rate': 0.5, 'search.learning_rate_min': 0.0,
    'search.warmup_epochs': 5, 'search.momentum': 0.9, 'search.weight_decay': 3e-4, 'search.clip_norm': 5.0,
    'search.alpha_learning_rate': 6e-3, 'search.alpha_betas': (0.5, 0.999), 'search.alpha_weight_decay': 1e-3,
    'search.alpha_warmup_epochs': 35, 'search.beta_decay_weight': 0.0,
  },
  ('mobile', 'cifar10'): {
    'supernet.channels': 16, 'space.nodes': 0, 'search.epochs': 50, 'search.batch_size': 0,
    'search.beta_decay_weight': 50.0,
  },
  ('mobile', 'cifar10,proxyless'): {  # α as in the official program; its weights train longer
    'relaxation.sampling': 'two_paths', 'search.alpha_optimizer': 'alpha_adam_two_paths',
    'search.alpha_learning_rate': 1e-3, 'search.alpha_betas': (0.0, 0.999), 'search.alpha_weight_decay': 0.0,
    'search.beta_decay_weight': 0.0,
  },
  ('mobile', 'cifar10,retrain'): {
    'network.stem': 'mobile', 'network.channels': 16, 'train.epochs': 200, 'train.batch_size': 128,
    'train.learning_rate': 0.1, 'train.weight_decay': 5e-4, 'train.schedule': 'cosine_steps', 'train.clip_norm': 0.0,
  },
  ('mobile', 'imagenet,retrain'): {
    'data.source': 'imagenet2012', 'data.image_size': 224, 'train.epochs': 300, 'train.batch_size': 256,
    'train.learning_rate': 0.05, 'train.weight_decay': 4e-5, 'train.label_smoothing': 0.1, 'train.warmup_epochs': 5,
  },
  ('retrain_cifar10',): {
    'data.cutout': 16, 'network.channels': 36, 'network.layers': 20, 'network.auxiliary_weight': 0.4,
    'train.epochs': 600, 'train.batch_size': 96, 'train.learning_rate': 0.025, 'train.momentum': 0.9,
    'train.weight_decay': 3e-4, 'train.clip_norm': 5.0, 'train.drop_path_rate': 0.2, 'train.label_smoothing': 0.0,
  },
  ('retrain_imagenet',): {
    'network.channels': 48, 'network.layers': 14, 'network.auxiliary_weight': 0.0, 'train.epochs': 250,
    'train.batch_size': 1024, 'train.learning_rate': 0.5, 'train.weight_decay': 3e-5, 'train.clip_norm': 5.0,
    'train.label_smoothing': 0.1, 'train.warmup_epochs': 5, 'train.schedule': 'linear_tail',
    'train.drop_path_rate': 0.0,
  },
}  # fmt: skip


@pytest.mark.parametrize('name', OFFICIAL, ids=' '.join)
def test_the_official_protocols(name):
  values = flatten(config(*name))
  assert {key: values[key] for key in OFFICIAL[name]} == OFFICIAL[name]


def test_every_own_protocol_is_compared_by_eye():
  assert not {*OWN, *HERE} - OFFICIAL.keys()


@pytest.mark.parametrize(
  'name',
  [
    ('digits',),
    *(('nas_bench_201', dataset) for dataset in ('cifar100', 'imagenet16_120', 'svhn')),
    *NAMED,
    *OWN,
    *(('darts', dataset) for dataset in ('cifar100', 'svhn')),
    *(('mobile', f'cifar10,{size}{m}') for size in ('', 'proxy,') for m in METHODS if m not in WITH_CELLS),
    *(('mobile', argument) for argument in ('svhn', 'cifar100,retrain')),
    *(('robust_darts', f'{space},cifar10{size}') for space in ('s1', 's2', 's3', 's4') for size in ('', ',proxy')),
    *(('darts_bench_suite', f'{argument}{task}') for argument in SUITE for task in ('', ',retrain')),
    *(('darts_imagenet', method) for method in ('beta_darts', 'beta_pc_darts', 'darts', 'pc_darts')),
    ('retrain_cifar100',),
    ('retrain_nas_bench_201', 'cifar100'),
  ],
  ids=' '.join,
)
def test_every_config_is_allowed_and_nothing_in_it_is_ignored(name):
  assert config(*name).is_locked


def test_methods_have_names_of_their_own():
  """The name is a part of the default folder, so that two methods never share one."""
  names = [config(*name).name for name in NAMED + OWN]
  assert len(set(names)) == len(names)


def test_only_beta_methods_use_beta_decay():
  for name, method in itertools.product(('nas_bench_201', 'darts'), METHODS):
    search = config(name, f'cifar10,{method}').search
    assert (search.beta_decay_weight > 0) == method.startswith('beta_')


def test_svhn_is_not_mirrored():
  assert not config('nas_bench_201', 'svhn').data.flip and not config('darts', 'svhn').data.flip


@pytest.mark.parametrize(
  'argument', ['mnist', 'cifar10,tiny', 'cifar10,proxy,proxy', 'cifar10,darts,proxy', 'cifar10,darts,own']
)
@pytest.mark.parametrize('name', ['nas_bench_201', 'darts', 'mobile'])
def test_an_unknown_argument_of_a_config_is_refused(name, argument):
  with pytest.raises(InputError, match='DATASET one of cifar10'):
    config(name, argument)


@pytest.mark.parametrize('method', WITH_CELLS)
def test_methods_that_need_cells_are_refused_in_a_space_without_cells(method):
  with pytest.raises(InputError, match=rf'mobile.py:cifar10,{method}: expected .*\({method}: it needs cells\)\.$'):
    config('mobile', f'cifar10,{method}')
  given = config('nas_bench_201', f'cifar10,{method}')
  given.space.name, given.supernet.unroll = 'mobile', False
  with pytest.raises(InputError, match=r'expected .* with space\.name=mobile'):
    check(given)


@pytest.mark.parametrize('name, file', SPACES.items())
def test_a_missing_protocol_is_named_with_its_reason(name, file):
  for method in METHODS.keys() - file.OWN.keys():
    with pytest.raises(InputError, match=rf'\({method}: .+\)\.'):
      config(name, f'cifar10,{method},own')


# ---- values that are derived from others ----


SMALL = [
  ('nas_bench_201', 'cifar10,proxy'), ('darts', 'cifar10,proxy'), ('mobile', 'cifar10,proxy'),
  ('robust_darts', 's2,cifar10,proxy'),
]  # fmt: skip


@pytest.mark.parametrize('name', [*SMALL, ('digits',)], ids=' '.join)
def test_small_searches_keep_the_official_values_of_alpha(name):
  small, official = config(*name).search, config('nas_bench_201', 'cifar10').search
  names = ('alpha_learning_rate', 'alpha_betas', 'alpha_weight_decay', 'beta_decay_weight', 'beta_decay_schedule')
  assert {name: small[name] for name in names} == {name: official[name] for name in names}


def test_pc_darts_waits_for_the_same_fraction_of_the_epochs_in_the_proxy():
  full, proxy = (config('nas_bench_201', f'cifar10,{size}pc_darts').search for size in ('', 'proxy,'))
  assert full.alpha_warmup_epochs / full.epochs == proxy.alpha_warmup_epochs / proxy.epochs == 0.3


@pytest.mark.parametrize('argument', SUITE)
def test_darts_bench_suite_is_nine_spaces(argument):
  searched, trained = config('darts_bench_suite', argument), config('darts_bench_suite', f'{argument},retrain')
  space = make_space(**searched.space.to_dict())
  assert space.nodes == (8 if 'single' in argument else 4) and space.auxiliary_skip == ('all_skip' in argument)
  assert ('skip_connect' in space.operation_names) == ('no_skip' not in argument)
  assert {searched.data.part, trained.data.part} == {'first half', 'second half'}
  assert trained.network.layers == searched.supernet.layers == {'w': 4, 'd': 18, 's': 1}[argument[0]]
  supernet = Supernet(space, 10, channels=4, layers=1)  # one reduction cell
  betas = {cell_type: jnp.zeros(space.alpha_shape) for cell_type in space.cell_types}
  variables = jax.eval_shape(supernet.init, jax.random.key(0), jnp.zeros((2, 8, 8, 3)), betas)
  assert variables['params']['network']['classifier']['kernel'].shape == (8 * len(space.concat), 10)


# ---- a run again ----


@pytest.mark.parametrize(
  'name',
  [
    ('digits',),
    ('nas_bench_201', 'cifar10,proxy,pc_darts'),
    ('robust_darts', 's2,cifar10,proxy'),
    ('retrain_imagenet',),
  ],
  ids=' '.join,
)
def test_again_reads_the_config_of_a_run(name, tmp_path):
  kept = config(*name).to_dict()
  kept['parallel'] |= {'coordinator': 'localhost:1', 'processes': 2, 'process': 1}  # differ from process to process
  (tmp_path / 'config.json').write_text(json.dumps(kept))
  for run in (tmp_path, tmp_path / 'config.json'):
    assert config('again', str(run)).to_dict() == config(*name).to_dict()


def test_again_leaves_out_no_key_that_changes_what_is_computed(tmp_path):
  kept = config('digits').to_dict() | {'tensorboard': False}  # a key of older versions
  (tmp_path / 'config.json').write_text(json.dumps(kept))
  assert config('again', str(tmp_path)).to_dict() == config('digits').to_dict()
  (tmp_path / 'config.json').write_text(json.dumps(kept | {'search': {'old': 1}}))
  with pytest.raises(InputError, match=r'this version has no search\.old'):
    config('again', str(tmp_path))


def test_again_without_a_run(tmp_path):
  (tmp_path / 'config.json').write_text('{"task": "other"}')
  with pytest.raises(InputError, match='folder of a run'):
    config('again', str(tmp_path))

"""Properties of the table, for every key."""

import math
import pathlib
import runpy

import jax.numpy as jnp
import pytest
from flax.traverse_util import unflatten_dict
from ml_collections import ConfigDict

from beta_darts_jax import InputError
from beta_darts_jax.config import DEFAULTS, default, default_retrain, flatten, ignored_options, keys_of
from beta_darts_jax.config.check import check, unknown_key
from beta_darts_jax.config.key import ABOVE_0
from beta_darts_jax.config.schema import varied_keys
from beta_darts_jax.method.optimizers import SCALARS, Hyperparameters
from beta_darts_jax.method.regularizers import REGULARIZERS, from_penalty
from beta_darts_jax.method.samplings import RELAXATIONS
from beta_darts_jax.search.schedule import Member
from beta_darts_jax.search.setup import make_schedule

DOCS = pathlib.Path(__file__).parents[2] / 'docs'
KEYS = [pytest.param(task, key, id=f'{task}: {key.name}') for task in DEFAULTS for key in keys_of(task)]
WRONG_TYPES = {bool: (1, 'True', ()), int: (True, 0.5, '1', (1,)), float: (True, '0.5', (0.5,)), str: (1, None, ('a',))}


def outside(key):
  """Numbers just outside the bounds of a key, and numbers that no key allows."""
  is_integer = key.item_type is int
  step = 1 if is_integer else 1e-6
  yield key.minimum - step if key.above is None else key.above
  if key.maximum is not None:
    yield key.maximum + step
  if key.below is not None:
    yield key.below
  yield from (-1, 2**31) if is_integer and key.maximum is None else (math.nan, math.inf, -math.inf)


def inside(key):
  """Numbers at the bounds of a key."""
  step = 1 if key.item_type is int else 1e-6
  yield key.minimum if key.above is None else key.above + step
  if key.maximum is not None:
    yield key.maximum
  if key.below is not None:
    yield key.below - step


def like_default(key, item):
  """`item`, or a tuple of as many as the default has (one if it has none)."""
  return (item,) * (len(key.default) or 1) if isinstance(key.default, tuple) else item


def with_value(task, name, value):
  """The defaults of a task with one value changed, without the conversions of ConfigDict."""
  return ConfigDict(unflatten_dict(flatten(DEFAULTS[task]()) | {name: value}, sep='.'), type_safe=False)


@pytest.mark.parametrize('task', DEFAULTS)
def test_the_defaults_are_allowed(task):
  config = check(DEFAULTS[task]())
  assert config.task == task and not ignored_options(config)
  assert flatten(config) == {key.name: key.default for key in keys_of(task)}


@pytest.mark.parametrize('task', DEFAULTS)
def test_every_key_has_a_meaning_of_its_own(task):
  meanings = [key.meaning for key in keys_of(task)]
  assert all(meanings) and len({*meanings}) == len(meanings)
  assert not any('|' in meaning for meaning in meanings)  # it would end a cell of the table in docs/configuration.md


@pytest.mark.parametrize('task, key', KEYS)
def test_wrong_types_and_values_outside_the_bounds_are_refused(task, key):
  wrong = [like_default(key, value) for value in WRONG_TYPES[key.item_type]]
  if key.item_type in (int, float):
    wrong += [like_default(key, number) for number in outside(key)]
  if key.choices is not None:
    wrong += [like_default(key, 'no such choice')]
  if isinstance(key.default, tuple):
    wrong += [(*key.default, b'one too many'), list(key.default)]
  for value in wrong:
    with pytest.raises(InputError) as error:
      check(with_value(task, key.name, value))
    assert str(error.value).startswith(f'config.{key.name}={value!r}: expected ') and '\n' not in str(error.value)


@pytest.mark.parametrize('task', DEFAULTS)
def test_values_at_the_bounds_are_allowed(task):
  for key in keys_of(task):
    at_bounds = inside(key) if key.item_type in (int, float) else key.choices or ()
    for value in at_bounds:
      assert key.allows(like_default(key, value)), (key.name, value, key.expected)


def test_expected_values_in_words():
  expected = {key.name: key.expected for task in DEFAULTS for key in keys_of(task)}
  assert expected['search.batch_size'] == 'an integer ≥ 0' and expected['train.batch_size'] == 'an integer > 0'
  assert expected['search.alpha_betas'] == 'a tuple of 2 numbers ≥ 0 and < 1'
  assert expected['population.clip_norm'] == 'a tuple of numbers > 0'
  assert expected['supernet.dtype'] == 'one of float32, bfloat16'


def test_only_with_names_a_key_and_values_that_it_allows():
  for task in DEFAULTS:
    keys = {key.name: key for key in keys_of(task)}
    for key in (key for key in keys.values() if key.only_with):
      other, allowed = key.only_with
      if allowed == ABOVE_0:
        assert isinstance(keys[other].default, (int, float))
        continue
      is_allowed = (keys[other].allows(like_default(keys[other], value)) for value in allowed)
      assert all(is_allowed) and set(allowed) != set(keys[other].choices or ())


def test_a_population_may_vary_what_the_program_takes_as_arguments():
  names = {name.removeprefix('population.') for name in flatten(default()) if name.startswith('population.')}
  assert names == {*varied_keys(), 'seeds'}
  scalars = {key.name for key in keys_of('search') if key.name not in names and isinstance(key.default, float)}
  groups = ('search.', 'relaxation.', 'hypergradient.', 'cost.')
  constant = {name for name in scalars if name.startswith(groups)} - set(varied_keys().values())
  assert constant == {'cost.target'}  # whether there is a target changes the program


def test_the_page_is_current():
  page = runpy.run_path(str(DOCS / 'configuration.py'))['page']()
  assert (DOCS / 'configuration.md').read_text() == page, 'run python docs/configuration.py'


# ---- unknown and missing keys ----


def test_a_new_key_cannot_be_added():
  with pytest.raises(AttributeError, match='Did you mean "epochs"'):
    default().search.epoch = 3


def test_check_names_unknown_and_missing_keys():
  unknown, missing = default().unlock(), default_retrain().unlock()
  unknown.search.epoch = 3
  with pytest.raises(InputError, match=r'unknown key config\.search\.epoch\. Did you mean config\.search\.epochs'):
    check(unknown)
  del missing.train.seed
  with pytest.raises(InputError, match=r'config\.train\.seed is missing: start from .*default_retrain\(\)'):
    check(missing)
  assert unknown_key('momentum', 'retrain').startswith(
    'unknown key config.momentum. Did you mean config.train.momentum'
  )


def test_an_unknown_task():
  with pytest.raises(InputError, match=r"config\.task='train': expected one of search, retrain"):
    check(with_value('search', 'task', 'train'))


# ---- parts that a config file registers ----


@pytest.fixture
def lasso(monkeypatch):
  """A regularizer with a weight of its own name."""
  penalty = from_penalty(lambda alphas: sum(jnp.sum(jnp.abs(alpha)) for alpha in alphas.values()), 'lasso_weight')
  monkeypatch.setitem(REGULARIZERS, 'lasso', penalty)


def test_a_registered_regularizer_has_keys(lasso):
  config = default()
  assert (config.search.lasso_weight, config.search.lasso_schedule, config.population.lasso_weight) == (
    0.0, 'constant', (),
  )  # fmt: skip
  config.search.regularizers = ('beta_decay', 'lasso')
  check(config)  # with weight 0, the baseline
  config.search.lasso_weight, config.search.lasso_schedule, config.population.lasso_weight = 0.1, 'linear', (0.0, 1.0)
  assert check(config).search.lasso_weight == 0.1
  assert 'lasso_weight' in varied_keys() and 'search.lasso_weight' in {key.name for key in keys_of('search')}


def test_a_scalar_of_ones_own_has_keys_and_reaches_the_step(monkeypatch):
  monkeypatch.setitem(SCALARS, 'radius', -0.5)
  config = default()
  assert (config.search.radius, config.population.radius) == (-0.5, ())
  config.population.radius = (-1.0, 2.0)
  schedule = make_schedule(check(config), steps_per_epoch=1)
  assert schedule.hyperparameters(Member(0), 3).scalars == Hyperparameters().scalars == {'radius': -0.5}
  assert schedule.hyperparameters(Member(0, {'radius': 2.0}), 3).scalars == {'radius': 2.0}


def test_a_scalar_of_ones_own_needs_a_new_name(monkeypatch):
  for name in ('momentum', 'temperature', 'cost'):  # of config.search, config.population, and a result
    monkeypatch.setitem(SCALARS, name, 1.0)
  with pytest.raises(InputError, match='SCALARS: cost, momentum, temperature: expected other names'):
    default()


@pytest.mark.parametrize('name, value', [('search.lasso_weight', 0.1), ('population.lasso_weight', (0.0, 0.1))])
def test_a_weight_needs_its_regularizer(lasso, name, value):
  with pytest.raises(InputError, match=rf'config\.{name}=.*: expected .* or lasso in search\.regularizers'):
    check(with_value('search', name, value))


def test_a_weight_has_a_name_that_ends_in_weight(monkeypatch):
  monkeypatch.setitem(REGULARIZERS, 'lasso', from_penalty(lambda alphas: 0.0, 'lasso'))
  with pytest.raises(InputError, match=r"regularizer 'lasso': weight='lasso': expected a name that ends in _weight"):
    default()


def test_a_registered_relaxation_may_use_any_option(monkeypatch):
  monkeypatch.setitem(RELAXATIONS, 'own', RELAXATIONS['softmax'])
  config = default()
  config.relaxation.sampling, config.relaxation.temperature = 'own', 3.0
  assert not ignored_options(check(config))
  config.relaxation.sampling = 'dirichlet'
  assert ignored_options(check(config)) == [
    'config.relaxation.temperature=3.0 is ignored: it applies only with config.relaxation.sampling=gumbel or '
    'soft_gumbel'
  ]


# ---- values without effect ----


def test_a_retraining_says_that_only_imagenet_has_resized_crops():
  config = default_retrain()
  config.data.crop_scale = (0.3, 1.0)
  expected = 'config.data.crop_scale=(0.3, 1.0) is ignored: it applies only with config.data.source=imagenet2012'
  assert ignored_options(config) == [expected]
  config.data.source = 'imagenet2012'
  assert not ignored_options(config)


def test_each_ignored_value_is_named_with_its_condition():
  config = default()
  config.supernet.layers, config.hypergradient.rate, config.relaxation.epsilon = 3, 0.1, 0.2
  layers, rate, epsilon = ignored_options(config)
  assert layers.startswith('config.supernet.layers=3 is ignored: it applies only with config.space.name=darts, ')
  assert rate.endswith('hypergradient.method=implicit') and 'relaxation.epsilon=0.2' in epsilon
  config.relaxation.perturbation, config.hypergradient.method, config.hypergradient.solver = 'random', 'implicit', 'cg'
  assert [message.rpartition(' ')[2] for message in ignored_options(config)[1:]] == [
    'config.hypergradient.solver=neumann'
  ]


def test_a_value_without_its_switch_is_ignored():
  """The switch is a number above 0, or a regularizer that uses the weight."""
  config = default()
  config.retrain.random_cells, config.early_stopping.eigenvalue_window = 5, 4
  config.search.regularizers, config.search.beta_decay_weight = ('l2',), 5.0
  weight, window, cells = ignored_options(config)
  assert weight.startswith('config.search.beta_decay_weight=5.0 is ignored: it applies only with config.search.regul')
  assert window.endswith('config.early_stopping.eigenvalue_ratio > 0')
  assert cells == 'config.retrain.random_cells=5 is ignored: it applies only with config.retrain.epochs > 0'
  config.search.beta_decay_weight = 0.0  # the baseline of a method
  config.retrain.epochs = 1
  assert ignored_options(config) == [window]

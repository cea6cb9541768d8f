import importlib

import pytest

from beta_darts_jax.config.named_methods import METHODS
from beta_darts_jax.config.schema import default, flatten
from beta_darts_jax.report.method import method_name


@pytest.mark.parametrize('file', ['nas_bench_201', 'darts'])
def test_the_page_names_every_method_of_the_config_files(file):
  get_config = importlib.import_module(f'configs.{file}').get_config
  found = [method_name(flatten(get_config(f'cifar10,proxy,{method}'))) for method in METHODS]
  assert found == [*METHODS]
  own = importlib.import_module(f'configs.{file}').OWN
  assert [method_name(flatten(get_config(f'cifar10,{method},own'))) for method in own] == [*own]


def test_a_method_without_a_name_is_its_parts():
  config = default()
  config.relaxation.partial_channels, config.relaxation.auxiliary_skip = 2, True
  config.search.beta_decay_weight = 0.0
  assert method_name(flatten(config)) == 'partial channels 2, auxiliary skip'
  config.population.beta_decay_weight = (0.0, 5.0)
  assert method_name(flatten(config)) == 'partial channels 2, auxiliary skip, beta decay'


def test_older_configs_and_own_regularizers_have_names_too():
  values = flatten(default())
  del values['relaxation.auxiliary_skip']
  assert method_name(values) == 'beta_darts'
  assert method_name(values | {'search.regularizers': ('beta_decay', 'spread')}) == 'beta decay, spread'

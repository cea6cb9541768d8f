import importlib.util
import pathlib

import pytest

from beta_darts_jax import InputError
from beta_darts_jax.config import check, default

CONFIGS = pathlib.Path(__file__).parent.parent / 'configs'


def config(name, *arguments):
  spec = importlib.util.spec_from_file_location(name, CONFIGS / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return check(module.get_config(*arguments))


@pytest.mark.parametrize('dataset', ['cifar10', 'cifar100'])
def test_the_official_protocol(dataset):
  full = config('nas_bench_201', dataset)
  assert full.data.to_dict() == {
    'source': dataset, 'data_dir': '', 'image_size': 0, 'fraction': 1.0, 'crop_padding': 4, 'flip': True, 'cutout': 0,
  }  # fmt: skip
  assert full.supernet.to_dict() == {'channels': 16, 'cells_per_stage': 5, 'dtype': 'float32'}
  published = {
    'epochs': 100, 'batch_size': 64, 'learning_rate': 0.025, 'learning_rate_min': 0.001, 'momentum': 0.9,
    'weight_decay': 3e-4, 'clip_norm': 5.0, 'alpha_learning_rate': 3e-4, 'alpha_betas': (0.5, 0.999),
    'alpha_weight_decay': 1e-3, 'beta_decay_weight': 50.0,
  }  # fmt: skip
  assert published.items() <= full.search.to_dict().items()


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


@pytest.mark.parametrize('argument', ['mnist', 'cifar10,tiny', 'cifar10,proxy,proxy'])
def test_unknown_arguments(argument):
  with pytest.raises(InputError, match='DATASET one of cifar10'):
    config('nas_bench_201', argument)


def test_a_config_has_all_keys_and_no_other():
  extra = default()
  extra.search.surplus = 1
  with pytest.raises(InputError, match=r'unknown config\.search\.surplus: allowed are alpha_betas'):
    check(extra)
  torn = default()
  del torn.search.seed
  with pytest.raises(InputError, match=r'config\.search\.seed is missing'):
    check(torn)

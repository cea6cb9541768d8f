"""Each rule between values refuses one config and allows its neighbour."""

import pytest

from beta_darts_jax import InputError
from beta_darts_jax.config import DEFAULTS
from beta_darts_jax.config.check import check, check_profile, step_range

DIAGNOSTICS = {'diagnostics.every_epochs': 5}
DARTS_PT = {'derivation.method': 'perturbation'}

# other values, the key that is named, a value that is allowed, one that is refused
SEARCH = [
  ({}, 'name', 'my_run-1.0', '../up'),
  ({}, 'search.alpha_warmup_epochs', 99, 100),
  ({}, 'search.alpha_epochs', 100, 101),
  ({'search.alpha_warmup_epochs': 10}, 'search.alpha_epochs', 11, 10),
  ({}, 'search.last_epoch', 100, 101),
  ({'search.last_epoch': 40}, 'diagnostics.every_epochs', 40, 41),
  ({}, 'search.regularizers', ('beta_decay', 'l2'), ('l2', 'l2')),
  ({'search.l2_weight': 0.1}, 'search.l2_weight', 0.0, 0.1),
  ({}, 'population.alignment_weight', (), (0.1, 0.2)),
  ({'search.regularizers': ('lambda_darts',)}, 'search.alignment_weight', 0.0, None),
  ({}, 'relaxation.partial_channels', 16, 3),
  ({'space.name': 'darts'}, 'relaxation.partial_channels', 8, 16),
  ({'space.name': 'darts', 'space.auxiliary_skip': True}, 'relaxation.auxiliary_skip', False, True),
  ({'relaxation.sampling': 'sigmoid'}, 'relaxation.perturbation', 'none', 'random'),
  ({'relaxation.sampling': 'sigmoid'}, 'derivation.method', 'argmax', 'perturbation'),
  ({}, 'diagnostics.every_epochs', 100, 101),
  ({}, 'diagnostics.kendall_cells', 0, 10),
  (DIAGNOSTICS, 'early_stopping.eigenvalue_ratio', 0.75, None),
  ({}, 'early_stopping.eigenvalue_ratio', 0.0, 0.75),
  (DIAGNOSTICS | {'early_stopping.eigenvalue_ratio': 0.75}, 'early_stopping.eigenvalue_window', 10, 11),
  ({'derivation.epoch': 'best'}, 'derivation.method', 'argmax', 'perturbation'),
  (DIAGNOSTICS | {'early_stopping.eigenvalue_ratio': 0.75}, 'derivation.method', 'argmax', 'perturbation'),
  ({'early_stopping.skips': 2, 'population.seeds': 2}, 'derivation.method', 'argmax', 'perturbation'),
  ({'early_stopping.skips': 2}, 'derivation.method', 'perturbation', None),
  ({}, 'population.learning_rate', (0.1, 1), (1, 1.0)),
  ({'search.seed': 2**32 - 2}, 'population.seeds', 2, 3),
  ({}, 'population.epsilon', (), (0.03, 0.1)),
  ({'relaxation.perturbation': 'random'}, 'population.epsilon', (0.03, 0.1), None),
  ({'population.seeds': 2}, 'retrain.epochs', 0, 6),
  ({'population.momentum': (0.5, 0.9)}, 'retrain.epochs', 0, 6),
  ({'retrain.schedule': 'linear_tail'}, 'retrain.epochs', 6, 5),
  ({}, 'profile', '3:5', '5:5'),
  ({}, 'profile', '', '5'),
]  # fmt: skip
RETRAIN = [
  ({}, 'data.crop_scale', (0.5, 0.5), (0.6, 0.5)),
  ({'train.schedule': 'linear_tail'}, 'train.epochs', 6, 5),
]
CASES = [*(('search', *case) for case in SEARCH), *(('retrain', *case) for case in RETRAIN)]


@pytest.mark.parametrize('task, others, name, allowed, refused', CASES)
def test_a_value_is_allowed_or_refused_beside_the_others(task, others, name, allowed, refused):
  config = DEFAULTS[task]()
  config.update_from_flattened_dict(others | {name: allowed})
  check(config)
  if refused is not None:
    config.update_from_flattened_dict({name: refused})
    with pytest.raises(InputError) as error:
      check(config)
    assert str(error.value).startswith(f'config.{name}={refused!r}: expected ')


def test_steps_of_a_profile():
  assert step_range('') == () and step_range('2:10') == (2, 10)
  check_profile('2:10', steps=10)
  with pytest.raises(InputError, match=r"config\.profile='2:10': expected steps up to 9"):
    check_profile('2:10', steps=9)

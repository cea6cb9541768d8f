"""The hyperparameters of each epoch."""

import numpy as np
import pytest

from beta_darts_jax.config import default
from beta_darts_jax.config.check import check
from beta_darts_jax.method.regularizers import REGULARIZERS, from_penalty
from beta_darts_jax.search.schedule import Member
from beta_darts_jax.search.setup import make_schedule

MEMBER = Member(seed=0)


def schedule_of(steps_per_epoch=390, **changes):
  """The schedule of a config; `changes` are config keys with __ for the dot."""
  config = default()
  config.update_from_flattened_dict({name.replace('__', '.', 1): value for name, value in changes.items()})
  return make_schedule(check(config), steps_per_epoch)


def test_hyperparameters_have_a_cosine_learning_rate_and_a_linear_weight():
  schedule = schedule_of()
  first, second, middle, last = (schedule.hyperparameters(MEMBER, epoch) for epoch in (0, 1, 50, 99))
  rates = [0.025, 0.025 - 0.012 * (1 - np.cos(np.pi / 100)), 0.013, 0.001 + 0.012 * (1 + np.cos(0.99 * np.pi))]
  np.testing.assert_allclose([hyper.learning_rate for hyper in (first, second, middle, last)], rates)
  np.testing.assert_allclose([hyper.beta_decay_weight for hyper in (first, second, middle, last)], [0, 0.5, 25, 49.5])
  assert (first.alpha_b1, first.alpha_b2, middle.epoch) == (0.5, 0.999, 50)


def test_the_learning_rate_of_the_weights_grows_linearly_in_the_warmup():
  warmed, whole = (
    [schedule_of(search__warmup_epochs=epochs).hyperparameters(MEMBER, epoch).learning_rate for epoch in range(7)]
    for epochs in (5, 0)
  )
  np.testing.assert_allclose(np.divide(warmed, whole), [0.2, 0.4, 0.6, 0.8, 1, 1, 1])


def test_hyperparameters_of_relaxations_are_linear():
  """ε is 0.03 + 0.27·e/E, τ falls from 10 to 0.1 in the last epoch, and the auxiliary skip from 1 to 0."""
  schedule = schedule_of()
  first, middle = (schedule.hyperparameters(MEMBER, epoch) for epoch in (0, 50))
  assert (first.perturbation, first.temperature, first.auxiliary_skip) == (0.03, 10.0, 1.0)
  varied = schedule.hyperparameters(Member(0, {'temperature': 4.0, 'epsilon': 0.1}), 0)
  assert (varied.perturbation, varied.temperature) == (0.1, 4.0)
  assert [middle.perturbation, middle.temperature, middle.auxiliary_skip] == pytest.approx(
    [0.165, 10 - 9.9 * 50 / 99, 0.5]
  )


def test_alpha_moves_in_its_epochs_only():
  schedule = schedule_of(search__alpha_warmup_epochs=30, search__alpha_epochs=60)
  rates = [schedule.hyperparameters(MEMBER, epoch).alpha_learning_rate for epoch in (0, 29, 30, 59, 60, 99)]
  assert rates == [0.0, 0.0, 3e-4, 3e-4, 0.0, 0.0]


def test_alpha_travel_is_the_sum_of_the_learning_rates():
  assert schedule_of().alpha_travel(MEMBER, 100) == pytest.approx(11.7)
  schedule = schedule_of(search__alpha_warmup_epochs=30)
  assert schedule.alpha_travel(MEMBER, 100) == pytest.approx(0.7 * 11.7)
  assert schedule.alpha_travel(Member(0, {'alpha_learning_rate': 1e-4}), 100) == pytest.approx(70 * 390 * 1e-4)


@pytest.mark.parametrize('steps_per_epoch', [1, 39, 390, 1185])
def test_per_step_is_the_slope_of_the_official_search(steps_per_epoch):
  """λ after n steps is 50·n/39,000 up to 50, for any length of an epoch; for 390 steps it is 0.5·epoch to the bit."""
  schedule = schedule_of(steps_per_epoch)
  weights = [schedule.hyperparameters(MEMBER, epoch).beta_decay_weight for epoch in range(100)]
  expected = np.minimum(50, 50 * np.arange(100) * steps_per_epoch / 39_000)
  np.testing.assert_allclose(weights, expected, rtol=1e-15)
  if steps_per_epoch == 390:
    assert weights == [0.5 * epoch for epoch in range(100)]


def test_describe_says_how_far_alpha_moves_and_the_range_of_each_weight():
  text = 'α moves by at most 12 in 39,000 steps, beta_decay_weight 0 … 49.5'
  assert schedule_of().describe([MEMBER], 100) == text
  members = [Member(0, {'beta_decay_weight': 0.0, 'alpha_learning_rate': 1e-4}), MEMBER, MEMBER]
  assert schedule_of().describe(members, 100) == text.replace('12', '3.9 … 12')


def test_the_weight_of_an_unused_regularizer_is_0():
  """metrics.jsonl reports the λ that acted."""
  hyper = schedule_of(search__regularizers=('l2',), search__beta_decay_weight=50.0).hyperparameters(MEMBER, 50)
  assert hyper.beta_decay_weight == 0.0


def test_a_registered_regularizer_has_a_weight_and_a_schedule_of_its_own(monkeypatch):
  monkeypatch.setitem(REGULARIZERS, 'lasso', from_penalty(lambda alphas: 0.0, 'lasso_weight'))
  schedule = schedule_of(
    search__regularizers=('beta_decay', 'lasso'), search__lasso_weight=2.0, search__lasso_schedule='linear'
  )
  hyper = schedule.hyperparameters(Member(seed=0, varied={'lasso_weight': 4.0}), 25)
  assert (hyper.weight_of('beta_decay_weight'), hyper.weight_of('lasso_weight')) == (12.5, 1.0)

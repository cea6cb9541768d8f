import jax
import jax.numpy as jnp
import numpy as np

from beta_darts_jax import NAS_BENCH_201, beta_decay
from beta_darts_jax.regularizers import linear_ramp

ALPHAS = {'cell': jax.random.normal(jax.random.key(0), (6, 5))}


def test_value_at_zero_is_log_of_operations():
  np.testing.assert_allclose(beta_decay({'cell': jnp.zeros((6, 5))}), np.log(5), rtol=1e-6)


def test_gradient_is_softmax_over_edges():
  gradient = jax.grad(beta_decay)(ALPHAS)['cell']
  np.testing.assert_allclose(gradient, jax.nn.softmax(ALPHAS['cell'], -1) / 6, rtol=1e-5)


def test_shift_adds_itself():
  shifted = {'cell': ALPHAS['cell'] + 3}
  np.testing.assert_allclose(beta_decay(shifted) - beta_decay(ALPHAS), 3, rtol=1e-5)


def test_cell_types_add_up():
  both = {'normal': ALPHAS['cell'], 'reduce': ALPHAS['cell'] + 1}
  np.testing.assert_allclose(beta_decay(both), 2 * beta_decay(ALPHAS) + 1, rtol=1e-5)


def test_ramp():
  assert [linear_ramp(50.0, epoch, 100) for epoch in (0, 1, 99)] == [0.0, 0.5, 49.5]


def test_initial_alphas_are_small():
  alphas = NAS_BENCH_201.init_alphas(jax.random.key(0))['cell']
  assert alphas.shape == (6, 5)
  assert 0.5e-3 < float(jnp.std(alphas)) < 1.5e-3

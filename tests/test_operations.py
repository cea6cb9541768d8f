import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beta_darts_jax import operations
from beta_darts_jax.operations import OPERATIONS, BatchNorm, Conv, convolution

KEY = jax.random.key(0)


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('size', [1, 3])
@pytest.mark.parametrize('shape', [(2, 8, 8, 3), (2, 7, 6, 3)])
def test_canonical_gradients_are_the_plain_ones(shape, size, stride):
  x = jax.random.normal(KEY, shape)
  kernel = jax.random.normal(KEY, (size, size, shape[-1], 4))
  padding = (size - 1) // 2
  y = convolution(x, kernel, stride, padding)
  cotangent = jax.random.normal(KEY, y.shape)
  plain = operations._plain_gradients(stride, padding, x, kernel, cotangent)
  canonical = operations._canonical_gradients(stride, padding, x, kernel, cotangent)
  through_vjp = jax.vjp(lambda x, k: convolution(x, k, stride, padding), x, kernel)[1](cotangent)
  for a, b, c in zip(plain, canonical, through_vjp, strict=True):
    np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(c, a, rtol=1e-5, atol=1e-5)


def test_second_derivatives_pass_through_convolution():
  x, kernel = jax.random.normal(KEY, (1, 4, 4, 2)), jax.random.normal(KEY, (3, 3, 2, 2))
  ours = lambda k: jnp.sum(convolution(x, k, 1, 1) ** 3)
  plain = lambda k: jnp.sum(operations._plain_convolution(x, k, 1, 1) ** 3)
  hvp = lambda f: jax.jvp(jax.grad(f), (kernel,), (jnp.ones_like(kernel),))[1]
  np.testing.assert_allclose(hvp(ours), hvp(plain), rtol=1e-4)


def test_strided_padding_is_pytorchs():
  """padding=1 on both sides: the window of output (0, 0) begins one pixel outside ('SAME' would begin inside)."""
  x = jnp.arange(16.0).reshape(1, 4, 4, 1)
  kernel = jnp.zeros((3, 3, 1, 1)).at[0, 0].set(1.0)
  np.testing.assert_array_equal(convolution(x, kernel, 2, 1)[0, :, :, 0], [[0, 0], [0, 5]])


def test_1x1_convolution_is_a_convolution():
  x = jax.random.normal(KEY, (2, 5, 5, 3))
  conv = Conv(4, 1)
  variables = conv.init(KEY, x)
  expected = convolution(x, variables['params']['kernel'])
  np.testing.assert_allclose(conv.apply(variables, x), expected, rtol=1e-5, atol=1e-6)


def test_average_pool_does_not_count_padding():
  y = OPERATIONS['avg_pool_3x3'](1, False, None).apply({}, jnp.arange(9.0).reshape(1, 3, 3, 1), train=True)
  np.testing.assert_allclose(y[0, :, :, 0], [[2, 2.5, 3], [3.5, 4, 4.5], [5, 5.5, 6]])


def test_batch_norm_is_stable_and_moves_by_a_tenth():
  x = 100 + 0.01 * jax.random.normal(KEY, (64, 4, 4, 2))
  module = BatchNorm(affine=False)
  y, updates = module.apply(module.init(KEY, x, True), x, True, mutable=['batch_stats'])
  expected = (x - x.mean((0, 1, 2))) / np.sqrt(np.var(np.float64(x), (0, 1, 2)) + 1e-5)
  np.testing.assert_allclose(y, expected, atol=0.02)
  stats = updates['batch_stats']['norm']
  np.testing.assert_allclose(stats['mean'], 10.0, rtol=1e-4)  # 0.9·0 + 0.1·100
  np.testing.assert_allclose(stats['var'], 0.9 + 0.1 * 0.01**2, rtol=1e-5)

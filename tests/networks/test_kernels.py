import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beta_darts_jax.networks.kernels.convolution import (
  canonical_convolution_gradients,
  convolution,
  plain_convolution,
  plain_gradients,
)
from beta_darts_jax.networks.kernels.depthwise import (
  _split_columns,
  depthwise,
  grouped_depthwise,
  shifted_depthwise_gradients,
)
from beta_darts_jax.networks.kernels.platform import no_refusion
from beta_darts_jax.networks.kernels.pooling import average_pool, max_pool, windowed_average_pool, windowed_max_pool
from beta_darts_jax.networks.kernels.sums import channel_sums, plain_sums, written_out_sums
from beta_darts_jax.networks.layers import one_pass_moments, two_pass_moments

KEY = jax.random.key(0)


@pytest.mark.parametrize('strides', [(1, 1), (2, 2), (1, 2)])
@pytest.mark.parametrize('size', [(1, 1), (3, 3), (2, 2), (1, 7)])
@pytest.mark.parametrize('shape', [(2, 8, 8, 3), (2, 7, 6, 3)])
def test_canonical_convolution_gradients_equal_the_plain_ones(shape, size, strides):
  x = jax.random.normal(KEY, shape)
  kernel = jax.random.normal(KEY, (*size, shape[-1], 4))
  padding = tuple((k - 1) // 2 for k in size)
  y = convolution(x, kernel, strides, padding)
  cotangent = jax.random.normal(KEY, y.shape)
  plain = plain_gradients(x, kernel, cotangent, form=plain_convolution, strides=strides, padding=padding)
  canonical = canonical_convolution_gradients(x, kernel, cotangent, strides, padding)
  through_vjp = jax.vjp(lambda x, k: convolution(x, k, strides, padding), x, kernel)[1](cotangent)
  for a, b, c in zip(plain, canonical, through_vjp, strict=True):
    np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(c, a, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('shape', [(2, 3, 8, 5), (2, 3, 7, 5)])
def test_written_out_channel_sums_equal_the_plain_ones(shape):
  """Also for a width that four does not divide, and through by_platform."""
  a, b = (jnp.cos(factor * jnp.arange(np.prod(shape)).reshape(shape)) for factor in (1.0, 0.7))
  function = lambda a, b: (a, a * b)
  plain = plain_sums(0.0, a, b, function=function)
  for form in (written_out_sums, channel_sums):
    np.testing.assert_allclose(form(jnp.float32(0), a, b, function=function), plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('mean, shift', [(0.3, 0.0), (100.0, 99.99)])
def test_one_pass_moments_equal_those_of_two_passes(mean, shift):
  """Also where the shift is 42 standard deviations away, or close to a mean of 10,000 standard deviations."""
  x = mean + 0.01 * jnp.cos(jnp.arange(2 * 3 * 8 * 5.0)).reshape(2, 3, 8, 5)
  shifts = jnp.full(5, shift)
  for a, b in zip(one_pass_moments(x, shifts), two_pass_moments(x, shifts), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3)


def test_convolution_has_second_derivatives():
  x, kernel = jax.random.normal(KEY, (1, 4, 4, 2)), jax.random.normal(KEY, (3, 3, 2, 2))
  ours = lambda k: jnp.sum(convolution(x, k, (1, 1), (1, 1)) ** 3)
  plain = lambda k: jnp.sum(plain_convolution(x, k, (1, 1), (1, 1)) ** 3)
  hvp = lambda f: jax.jvp(jax.grad(f), (kernel,), (jnp.ones_like(kernel),))[1]
  np.testing.assert_allclose(hvp(ours), hvp(plain), rtol=1e-4)


def test_no_refusion_changes_no_value_and_no_derivative():
  """Second derivatives too, inside a loop."""

  def everything(identity):
    def loss(x, runtime_scalar):
      body = lambda y, _: (jnp.sin(identity(y, runtime_scalar)) * x, None)
      return jnp.sum(jax.lax.scan(body, x, None, 2)[0])

    gradient = jax.grad(loss)
    x, runtime_scalar = jnp.arange(3.0), jnp.float32(2)
    forward = jax.jvp(lambda x: gradient(x, runtime_scalar), (x,), (x,))[1]
    reverse = jax.grad(lambda x: jnp.sum(gradient(x, runtime_scalar) ** 2))(x)
    return loss(x, runtime_scalar), gradient(x, runtime_scalar), forward, reverse

  ours, plain = (jax.jit(everything, static_argnums=0)(f) for f in (no_refusion, lambda x, runtime_scalar: x))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours, plain)


def test_convolution_pads_on_both_sides_like_pytorch():
  """With padding=1, the window of output (0, 0) begins one pixel outside the image; 'SAME' would begin inside."""
  x = jnp.arange(16.0).reshape(1, 4, 4, 1)
  kernel = jnp.zeros((3, 3, 1, 1)).at[0, 0].set(1.0)
  np.testing.assert_array_equal(convolution(x, kernel, (2, 2), (1, 1))[0, :, :, 0], [[0, 0], [0, 5]])


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('size, dilation', [(3, 1), (5, 2)])
def test_shifted_depthwise_equals_grouped_depthwise(size, dilation, stride):
  """Values, both gradients, and the second derivatives forward over reverse and reverse over reverse."""
  x, kernel = jax.random.normal(KEY, (2, 8, 8, 3)), jax.random.normal(KEY, (size, size, 1, 3))

  def everything(form):
    loss = lambda x, kernel: jnp.sum(jnp.sin(form(x, kernel, stride, dilation)))
    gradient = jax.grad(loss, argnums=(0, 1))
    forward = jax.jvp(gradient, (x, kernel), (x, kernel))[1]
    reverse = jax.grad(lambda x, kernel: sum(jnp.sum(g**2) for g in gradient(x, kernel)), argnums=(0, 1))(x, kernel)
    return form(x, kernel, stride, dilation), gradient(x, kernel), forward, reverse

  ours = jax.jit(everything, static_argnums=0)(depthwise)
  plain = jax.jit(everything, static_argnums=0)(grouped_depthwise)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), ours, plain)


@pytest.mark.parametrize('stride, dilation', [(1, 2), (2, 2), (1, 3), (2, 4)])
@pytest.mark.parametrize('width, most_columns', [(10, 3), (7, 32)])
def test_a_depthwise_gradient_in_blocks_of_columns_equals_the_plain_one(
  width, most_columns, stride, dilation, monkeypatch
):
  """Also if neither the blocks nor the dilation divide the width."""
  monkeypatch.setattr('beta_darts_jax.networks.kernels.depthwise.MOST_COLUMNS', most_columns)
  options = {'stride': stride, 'dilation': dilation}
  x = jnp.cos(jnp.arange(2.0 * 5 * width * 3)).reshape(2, 5, width, 3)
  kernel = jnp.arange(75.0).reshape(5, 5, 1, 3)
  cotangent = jnp.sin(grouped_depthwise(x, kernel, **options))
  ours = jax.jit(functools.partial(shifted_depthwise_gradients, **options))(x, kernel, cotangent)
  plain = plain_gradients(x, kernel, cotangent, form=grouped_depthwise, **options)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), ours, plain)


def test_the_parts_of_an_image_that_is_split_into_columns_follow_each_other():
  """Then a batch that devices share stays split between them."""
  images = jnp.arange(2.0 * 3 * 6 * 1).reshape(2, 3, 6, 1)
  np.testing.assert_array_equal(_split_columns(images, 2), [image[:, p::2] for image in images for p in range(2)])


def test_the_program_of_a_depthwise_gradient_does_not_grow_with_the_image():
  def size(width):
    x, kernel = jnp.zeros((1, width, width, 1)), jnp.zeros((7, 7, 1, 1))
    return str(jax.make_jaxpr(jax.grad(lambda x, k: jnp.sum(depthwise(x, k)), (0, 1)))(x, kernel)).count('\n')

  assert size(224) < size(32) < 2 * size(16)


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('shape', [(2, 8, 8, 3), (1, 5, 3, 2), (1, 1, 2, 1)])
def test_shifted_average_pool_equals_the_windowed_one(shape, stride):
  """Values, gradients and second derivatives."""
  x = jax.random.normal(KEY, shape)
  plain = lambda x: windowed_average_pool(x, stride)
  ours = lambda x: average_pool(x, stride)
  for a, b in zip(*[(f(x), jax.vjp(f, x)[1](f(x))) for f in (plain, ours)], strict=True):
    np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)

  def second_derivatives(pool):
    gradient = jax.grad(lambda x: jnp.sum(jnp.sin(pool(x))))
    return jax.jvp(gradient, (x,), (x,))[1], jax.grad(lambda x: jnp.sum(jnp.cos(gradient(x))))(x)

  for a, b in zip(second_derivatives(plain), second_derivatives(ours), strict=True):
    np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)
  assert ours(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('shape', [(2, 8, 8, 3), (1, 5, 3, 2), (1, 2, 2, 1)])
def test_shifted_max_pool_equals_the_windowed_one(shape, stride):
  """Values, gradients and second derivatives; whole numbers give ties, which the gradients must break equally."""
  x = jnp.round(2 * jax.random.normal(KEY, shape))
  plain = lambda x: windowed_max_pool(x, stride)
  ours = lambda x: max_pool(x, stride)
  for a, b in zip(*[(f(x), jax.vjp(f, x)[1](f(x))) for f in (plain, ours)], strict=True):
    np.testing.assert_array_equal(b, a)
  gradient = jax.grad(lambda x: jnp.sum(jnp.sin(ours(x))))
  plain_gradient = jax.grad(lambda x: jnp.sum(jnp.sin(plain(x))))
  without_ties = x + 0.1 * jax.random.normal(KEY, shape)
  numerical = (plain_gradient(without_ties + 1e-2 * x) - plain_gradient(without_ties - 1e-2 * x)) / 2e-2
  np.testing.assert_allclose(jax.jvp(gradient, (without_ties,), (x,))[1], numerical, rtol=1e-3, atol=1e-2)
  assert jnp.isnan(ours(x.at[0, 0, 0, 0].set(jnp.nan))[0, 0, 0, 0])

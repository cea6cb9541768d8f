import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beta_darts_jax.networks import operations
from beta_darts_jax.networks.operations import OPERATIONS, BatchNorm, Conv, convolution

KEY = jax.random.key(0)


@pytest.mark.parametrize('strides', [(1, 1), (2, 2), (1, 2)])
@pytest.mark.parametrize('size', [(1, 1), (3, 3), (2, 2), (1, 7)])
@pytest.mark.parametrize('shape', [(2, 8, 8, 3), (2, 7, 6, 3)])
def test_canonical_gradients_are_the_plain_ones(shape, size, strides):
  x = jax.random.normal(KEY, shape)
  kernel = jax.random.normal(KEY, (*size, shape[-1], 4))
  padding = tuple((k - 1) // 2 for k in size)
  y = convolution(x, kernel, strides, padding)
  cotangent = jax.random.normal(KEY, y.shape)
  plain = operations._plain_gradients(strides, padding, x, kernel, cotangent)
  canonical = operations._canonical_gradients(strides, padding, x, kernel, cotangent)
  through_vjp = jax.vjp(lambda x, k: convolution(x, k, strides, padding), x, kernel)[1](cotangent)
  for a, b, c in zip(plain, canonical, through_vjp, strict=True):
    np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(c, a, rtol=1e-5, atol=1e-5)


def test_second_derivatives_pass_through_convolution():
  x, kernel = jax.random.normal(KEY, (1, 4, 4, 2)), jax.random.normal(KEY, (3, 3, 2, 2))
  ours = lambda k: jnp.sum(convolution(x, k, (1, 1), (1, 1)) ** 3)
  plain = lambda k: jnp.sum(operations._plain_convolution(x, k, (1, 1), (1, 1)) ** 3)
  hvp = lambda f: jax.jvp(jax.grad(f), (kernel,), (jnp.ones_like(kernel),))[1]
  np.testing.assert_allclose(hvp(ours), hvp(plain), rtol=1e-4)


def test_computed_once_changes_nothing():
  """Nor do derivatives of derivatives, inside a loop."""

  def everything(once):
    def loss(x, known):
      body = lambda y, _: (jnp.sin(once(y, known)) * x, None)
      return jnp.sum(jax.lax.scan(body, x, None, 2)[0])

    gradient = jax.grad(loss)
    x, known = jnp.arange(3.0), jnp.float32(2)
    forward = jax.jvp(lambda x: gradient(x, known), (x,), (x,))[1]
    return loss(x, known), gradient(x, known), forward, jax.grad(lambda x: jnp.sum(gradient(x, known) ** 2))(x)

  ours, plain = (jax.jit(everything, static_argnums=0)(f) for f in (operations.computed_once, lambda x, known: x))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours, plain)


def test_strided_padding_is_pytorchs():
  """padding=1 on both sides: the window of output (0, 0) begins one pixel outside ('SAME' would begin inside)."""
  x = jnp.arange(16.0).reshape(1, 4, 4, 1)
  kernel = jnp.zeros((3, 3, 1, 1)).at[0, 0].set(1.0)
  np.testing.assert_array_equal(convolution(x, kernel, (2, 2), (1, 1))[0, :, :, 0], [[0, 0], [0, 5]])


def test_1x1_convolution_is_a_convolution():
  x = jax.random.normal(KEY, (2, 5, 5, 3))
  conv = Conv(4, 1)
  variables = conv.init(KEY, x)
  expected = convolution(x, variables['params']['kernel'])
  np.testing.assert_allclose(conv.apply(variables, x), expected, rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(conv.init_with_output(KEY, x)[0], conv.apply(variables, x))  # of the drawn weights


def test_average_pool_does_not_count_padding():
  y = OPERATIONS['avg_pool_3x3'](1, 1, False, None).apply({}, jnp.arange(9.0).reshape(1, 3, 3, 1), train=True)
  np.testing.assert_allclose(y[0, :, :, 0], [[2, 2.5, 3], [3.5, 4, 4.5], [5, 5.5, 6]])


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('shape', [(2, 8, 8, 3), (1, 5, 3, 2), (1, 2, 2, 1)])
def test_average_pool_is_the_windowed_mean(shape, stride):
  x = jax.random.normal(KEY, shape)
  plain = lambda x: operations.windowed_average(x, stride)
  ours = lambda x: OPERATIONS['avg_pool_3x3'](1, stride, False, None).apply({}, x, train=True)
  for a, b in zip(*[(f(x), jax.vjp(f, x)[1](f(x))) for f in (plain, ours)], strict=True):
    np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('shape', [(2, 8, 8, 3), (1, 5, 3, 2), (1, 2, 2, 1)])
def test_max_of_nine_is_the_windowed_maximum(shape, stride):
  """Values, gradients (ties too: whole numbers) and second derivatives."""
  x = jnp.round(2 * jax.random.normal(KEY, shape))
  plain = lambda x: operations.windowed_maximum(x, stride)
  ours = lambda x: operations.max_pool(x, stride)
  for a, b in zip(*[(f(x), jax.vjp(f, x)[1](f(x))) for f in (plain, ours)], strict=True):
    np.testing.assert_array_equal(b, a)
  gradient = jax.grad(lambda x: jnp.sum(jnp.sin(ours(x))))
  slope = jax.grad(lambda x: jnp.sum(jnp.sin(plain(x))))
  apart = x + 0.1 * jax.random.normal(KEY, shape)  # (without ties)
  numerical = (slope(apart + 1e-2 * x) - slope(apart - 1e-2 * x)) / 2e-2
  np.testing.assert_allclose(jax.jvp(gradient, (apart,), (x,))[1], numerical, rtol=1e-3, atol=1e-2)
  assert jnp.isnan(ours(x.at[0, 0, 0, 0].set(jnp.nan))[0, 0, 0, 0])


def test_batch_norm_is_stable_and_moves_by_a_tenth():
  x = 100 + 0.01 * jax.random.normal(KEY, (64, 4, 4, 2))
  module = BatchNorm(affine=False)
  y, updates = module.apply(module.init(KEY, x, True), x, True, mutable=['batch_stats'])
  expected = (x - x.mean((0, 1, 2))) / np.sqrt(np.var(np.float64(x), (0, 1, 2)) + 1e-5)
  np.testing.assert_allclose(y, expected, atol=0.02)
  stats = updates['batch_stats']
  np.testing.assert_allclose(stats['mean'], 10.0, rtol=1e-4)  # 0.9·0 + 0.1·100
  np.testing.assert_allclose(stats['var'], 0.9 + 0.1 * 0.01**2, rtol=1e-5)


@pytest.mark.parametrize('affine', [False, True])
def test_batch_norm_is_flaxs(affine):
  """Values, running statistics, gradients and second derivatives, with a mixing weight, in training and in use."""
  x, weight = 1 + 2 * jax.random.normal(KEY, (4, 3, 3, 5)), jnp.float32(0.3)
  ours = BatchNorm(affine)
  plain = nn.BatchNorm(
    momentum=0.9, epsilon=1e-5, use_scale=affine, use_bias=affine, use_fast_variance=False, use_running_average=None
  )
  parameters = {'scale': jnp.arange(1.0, 6.0), 'bias': jnp.arange(5.0)} if affine else {}
  statistics = {'mean': jnp.arange(5.0), 'var': jnp.arange(2.0, 7.0)}
  apply_ours = lambda v, x, w, train: ours.apply(v, x, train, w, mutable=['batch_stats'])

  def apply_plain(v, x, w, train):
    y, updates = plain.apply(v, x, use_running_average=not train, mutable=['batch_stats'])
    return w * y, updates

  def everything(apply, train):
    def loss(p, x, w):
      y, updates = apply({'params': p, 'batch_stats': statistics}, x, w, train)
      return jnp.sum(jnp.sin(y)), (y, updates)

    arguments = (parameters, x, weight)
    gradient = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)
    squares = lambda *arguments: sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient(*arguments)[0]))
    forward = jax.jvp(lambda *arguments: gradient(*arguments)[0], arguments, arguments)[1]
    return gradient(*arguments), forward, jax.grad(squares, argnums=(0, 1, 2))(*arguments)

  for train in (True, False):
    results = [jax.jit(everything, static_argnums=(0, 1))(apply, train) for apply in (apply_ours, apply_plain)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), *results)


def test_batch_norm_of_bfloat16_counts_in_float32():
  x = (100 + jax.random.normal(KEY, (64, 4, 4, 2))).astype(jnp.bfloat16)
  module = BatchNorm(affine=True, dtype=jnp.bfloat16)
  variables = module.init(KEY, x, True)
  y, updates = module.apply(variables, x, True, mutable=['batch_stats'])
  assert y.dtype == jnp.bfloat16
  assert {leaf.dtype for leaf in jax.tree.leaves((variables, updates))} == {jnp.dtype('float32')}
  np.testing.assert_allclose(updates['batch_stats']['mean'], 0.1 * np.float64(x).mean((0, 1, 2)), rtol=1e-5)


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('size, dilation', [(3, 1), (5, 2)])
def test_depthwise_forms_agree(size, dilation, stride):
  """Values, both gradients, and the second derivatives forward over reverse and reverse over reverse."""
  x, kernel = jax.random.normal(KEY, (2, 8, 8, 3)), jax.random.normal(KEY, (size, size, 1, 3))

  def everything(form):
    loss = lambda x, kernel: jnp.sum(jnp.sin(form(x, kernel, stride, dilation)))
    gradient = jax.grad(loss, argnums=(0, 1))
    forward = jax.jvp(gradient, (x, kernel), (x, kernel))[1]
    reverse = jax.grad(lambda x, kernel: sum(jnp.sum(g**2) for g in gradient(x, kernel)), argnums=(0, 1))(x, kernel)
    return form(x, kernel, stride, dilation), gradient(x, kernel), forward, reverse

  ours = jax.jit(everything, static_argnums=0)(operations.shifted_depthwise)
  plain = jax.jit(everything, static_argnums=0)(operations.grouped_depthwise)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), ours, plain)
  np.testing.assert_allclose(operations.depthwise(x, kernel, stride, dilation), plain[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', OPERATIONS)
def test_every_operation_halves_with_stride_2(name):
  x = jnp.zeros((2, 8, 8, 4))
  for stride in (1, 2):
    module = OPERATIONS[name](4, stride, False, None)
    variables = jax.eval_shape(lambda m=module: m.init({'params': KEY, 'draw': KEY}, x, True))
    apply = lambda v, m=module: m.apply(v, x, True, rngs={'draw': KEY}, mutable=['batch_stats'])[0]
    y = jax.eval_shape(apply, variables)
    assert y.shape == (2, 8 // stride, 8 // stride, 4)


@pytest.mark.parametrize('stride', [1, 2])
def test_operations_of_members_together_are_those_of_each(stride):
  """Gradients of all that do not draw, vmapped over two sets of weights and images."""
  names = sorted(set(OPERATIONS) - {'none', 'noise'})
  modules = {name: OPERATIONS[name](4, stride, False, None) for name in names}
  x = jax.random.normal(KEY, (2, 3, 8, 8, 4))
  initial = lambda key, x: {name: module.init(key, x, True) for name, module in modules.items()}
  variables = jax.jit(jax.vmap(initial))(jax.random.split(KEY), x)

  def loss(variables, x, weight):
    outputs = [m.apply(variables[n], x, True, weight, mutable=['batch_stats'])[0] for n, m in modules.items()]
    return sum(jnp.sum(jnp.sin(y)) for y in outputs)

  gradient = jax.grad(loss, argnums=(0, 1, 2))
  weights = jnp.array([0.3, 0.7])
  together = jax.jit(jax.vmap(gradient))(variables, x, weights)
  each = jax.jit(gradient)
  for i in (0, 1):
    lone = each(jax.tree.map(lambda v, i=i: v[i], variables), x[i], weights[i])
    jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-4), together, lone)


def test_factorized_reduce_sees_every_pixel_of_the_diagonals():
  """conv_1 takes the even pixels, conv_2 those one down and one right of them."""
  x = jnp.arange(16.0).reshape(1, 4, 4, 1)
  module = operations.FactorizedReduce(2, affine=False)
  variables = module.init(KEY, x, False)
  params = jax.tree.map(jnp.ones_like, variables['params'])
  y = module.apply(variables | {'params': params}, x, False)  # running statistics 0 and 1
  np.testing.assert_allclose(y[0, :, :, 0], [[0, 2], [8, 10]], rtol=1e-4)
  np.testing.assert_allclose(y[0, :, :, 1], [[5, 7], [13, 15]], rtol=1e-4)


def test_noise_is_new_for_every_key_and_never_looks_at_its_input():
  module = OPERATIONS['noise'](4, 1, False, None)
  draw = lambda x, seed: module.apply({}, x, False, rngs={'draw': jax.random.key(seed)})
  x = jnp.zeros((64, 8, 8, 4))
  np.testing.assert_array_equal(draw(x, 0), draw(x + 1, 0))
  assert not np.array_equal(draw(x, 0), draw(x, 1))
  assert abs(float(jnp.mean(draw(x, 0)))) < 0.03 and abs(float(jnp.std(draw(x, 0))) - 1) < 0.03

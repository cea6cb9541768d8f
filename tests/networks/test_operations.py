import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beta_darts_jax.networks.kernels.convolution import convolution
from beta_darts_jax.networks.layers import BatchNorm, Conv, FactorizedReduce
from beta_darts_jax.networks.operations import OPERATIONS

KEY = jax.random.key(0)


def make(name, channels, stride=1):
  return OPERATIONS[name](channels=channels, stride=stride, affine=False, dtype=None)


def test_1x1_convolution_equals_the_general_one():
  x = jax.random.normal(KEY, (2, 5, 5, 3))
  conv = Conv(4, 1)
  variables = conv.init(KEY, x)
  expected = convolution(x, variables['params']['kernel'])
  np.testing.assert_allclose(conv.apply(variables, x), expected, rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(conv.init_with_output(KEY, x)[0], conv.apply(variables, x))


def test_average_pool_does_not_count_padding():
  y = make('avg_pool_3x3', 1).apply({}, jnp.arange(9.0).reshape(1, 3, 3, 1), train=True)
  np.testing.assert_allclose(y[0, :, :, 0], [[2, 2.5, 3], [3.5, 4, 4.5], [5, 5.5, 6]])


def test_batch_norm_is_stable_and_its_statistics_move_by_a_tenth():
  x = 100 + 0.01 * jax.random.normal(KEY, (64, 4, 4, 2))
  module = BatchNorm(affine=False)
  y, updates = module.apply(module.init(KEY, x, True), x, True, mutable=['batch_stats'])
  expected = (x - x.mean((0, 1, 2))) / np.sqrt(np.var(np.float64(x), (0, 1, 2)) + 1e-5)
  np.testing.assert_allclose(y, expected, atol=0.02)
  stats = updates['batch_stats']
  np.testing.assert_allclose(stats['mean'], 10.0, rtol=1e-4)  # 0.9·0 + 0.1·100
  np.testing.assert_allclose(stats['var'], 0.9 + 0.1 * 0.01**2, rtol=1e-5)


@pytest.mark.parametrize('affine', [False, True])
def test_batch_norm_equals_flax(affine):
  """Values, running statistics, gradients and second derivatives, with a weight, in training and in evaluation."""
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


def test_batch_norm_of_float32_images_in_64_bit_mode():
  """The running statistics and the parameters are float64 there."""
  with jax.enable_x64(True):
    x, module = jnp.arange(24, dtype=jnp.float32).reshape(2, 3, 2, 2), BatchNorm(affine=True)
    variables = jax.tree.map(np.float64, module.init(KEY, x, True))

    def loss(params, x):
      y, updates = module.apply({**variables, 'params': params}, x, True, mutable=['batch_stats'])
      return jnp.sum(jnp.sin(y)), (y, updates)

    gradients, (y, updates) = jax.grad(loss, argnums=(0, 1), has_aux=True)(variables['params'], x)
  assert y.dtype == np.float32 and updates['batch_stats']['mean'].dtype == np.float64
  assert gradients[0]['scale'].dtype == np.float64 and gradients[1].dtype == np.float32
  np.testing.assert_allclose(updates['batch_stats']['mean'], 0.1 * np.float64(x).mean((0, 1, 2)), rtol=1e-6)


def test_batch_norm_of_bfloat16_keeps_float32_statistics():
  x = (100 + jax.random.normal(KEY, (64, 4, 4, 2))).astype(jnp.bfloat16)
  module = BatchNorm(affine=True, dtype=jnp.bfloat16)
  variables = module.init(KEY, x, True)
  y, updates = module.apply(variables, x, True, mutable=['batch_stats'])
  assert y.dtype == jnp.bfloat16
  assert {leaf.dtype for leaf in jax.tree.leaves((variables, updates))} == {jnp.dtype('float32')}
  np.testing.assert_allclose(updates['batch_stats']['mean'], 0.1 * np.float64(x).mean((0, 1, 2)), rtol=1e-5)


@pytest.mark.parametrize('name', OPERATIONS)
def test_every_operation_halves_the_image_with_stride_2(name):
  x = jnp.zeros((2, 8, 8, 4))
  for stride in (1, 2):
    module = make(name, 4, stride)
    variables = jax.eval_shape(lambda m=module: m.init({'params': KEY, 'draw': KEY}, x, True))
    apply = lambda v, m=module: m.apply(v, x, True, rngs={'draw': KEY}, mutable=['batch_stats'])[0]
    y = jax.eval_shape(apply, variables)
    assert y.shape == (2, 8 // stride, 8 // stride, 4)


@pytest.mark.parametrize('stride', [pytest.param(1, marks=pytest.mark.full), 2])
def test_vmapped_operations_equal_single_ones(stride):
  """Gradients of all operations without random numbers, vmapped over two sets of weights and images."""
  names = sorted(set(OPERATIONS) - {'none', 'noise'})
  modules = {name: make(name, 4, stride) for name in names}
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
    single = each(jax.tree.map(lambda v, i=i: v[i], variables), x[i], weights[i])
    jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-4), together, single)


def test_factorized_reduce_uses_both_diagonal_pixels():
  """conv_1 takes the pixels with even coordinates, conv_2 those with odd coordinates."""
  x = jnp.arange(16.0).reshape(1, 4, 4, 1)
  module = FactorizedReduce(2, affine=False)
  variables = module.init(KEY, x, False)
  params = jax.tree.map(jnp.ones_like, variables['params'])
  y = module.apply(variables | {'params': params}, x, False)  # running statistics 0 and 1
  np.testing.assert_allclose(y[0, :, :, 0], [[0, 2], [8, 10]], rtol=1e-4)
  np.testing.assert_allclose(y[0, :, :, 1], [[5, 7], [13, 15]], rtol=1e-4)


def test_noise_depends_on_the_key_and_not_on_the_input():
  module = make('noise', 4)
  draw = lambda x, seed: module.apply({}, x, False, rngs={'draw': jax.random.key(seed)})
  x = jnp.zeros((64, 8, 8, 4))
  np.testing.assert_array_equal(draw(x, 0), draw(x + 1, 0))
  assert not np.array_equal(draw(x, 0), draw(x, 1))
  assert abs(float(jnp.mean(draw(x, 0)))) < 0.03 and abs(float(jnp.std(draw(x, 0))) - 1) < 0.03

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import golden, nhwc

from beta_darts_jax import NAS_BENCH_201, NasBench201Network, Supernet, beta_decay, softmax_betas
from beta_darts_jax.interop import supernet_variables
from beta_darts_jax.metrics import cross_entropy

SUPERNET = Supernet(NAS_BENCH_201, num_classes=10, channels=4, cells_per_stage=1)


@pytest.fixture(scope='module')
def official():
  return golden('nas_bench_201_supernet')


def relative(actual, expected):
  return np.abs(actual - expected).max() / np.abs(expected).max()


def test_logits_losses_and_gradients_are_the_official_ones(official):
  arrays, variables = official
  alphas, variables = variables('before/')

  @jax.jit
  def everything(params, alphas, valid_images, valid_labels, images, labels):
    def loss(params, alphas, images, labels):
      variables_ = {'params': params, 'batch_stats': variables['batch_stats']}
      logits, _ = SUPERNET.apply(variables_, images, softmax_betas(alphas), train=True, mutable=['batch_stats'])
      return cross_entropy(logits, labels), logits

    (value, logits), weight_gradient = jax.value_and_grad(loss, has_aux=True)(params, alphas, images, labels)
    valid = lambda alphas: loss(params, alphas, valid_images, valid_labels)[0]
    penalized = lambda alphas: valid(alphas) + 5 * beta_decay(alphas)
    return logits, value, valid(alphas), beta_decay(alphas), jax.grad(penalized)(alphas)['cell'], weight_gradient

  batches = (nhwc(arrays['x_valid']), arrays['y_valid'], nhwc(arrays['x']), arrays['y'])
  *values, gradient = everything(variables['params'], alphas, *batches)
  for value, name in zip(values, ('logits', 'loss', 'loss_valid', 'beta_decay', 'alpha_grad_lambda5'), strict=True):
    assert relative(value, arrays[name]) < 1e-5, name

  # the official weight gradients take the way of the weights; running statistics do not matter here
  state_dict = {k.removeprefix('before/'): v for k, v in arrays.items() if k.startswith('before/')}
  state_dict |= {k.removeprefix('weight_grad/'): v for k, v in arrays.items() if k.startswith('weight_grad/')}
  expected = supernet_variables(state_dict, NAS_BENCH_201)['params']
  jax.tree.map(lambda a, e: np.testing.assert_array_less(relative(a, e), 1e-5), gradient, expected)


def test_interop_refuses_a_torn_state_dict(official):
  arrays, _ = official
  state_dict = {k.removeprefix('before/'): v for k, v in arrays.items() if k.startswith('before/')}
  missing = {k: v for k, v in state_dict.items() if k != 'classifier.weight'}
  with pytest.raises(ValueError, match=r'classifier\.weight'):
    supernet_variables(missing, NAS_BENCH_201)
  with pytest.raises(ValueError, match='surplus'):
    supernet_variables(state_dict | {'surplus': np.zeros(1)}, NAS_BENCH_201)


def test_number_of_weights_is_the_official_one():
  supernet = Supernet(NAS_BENCH_201, num_classes=10, channels=16, cells_per_stage=5)
  betas = {'cell': jnp.zeros((6, 5))}
  shapes = jax.eval_shape(supernet.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)), betas)
  count = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes['params']))
  assert round(count / 1e6, 4) == 1.6861


def test_initial_variance_is_pytorchs():
  supernet = Supernet(NAS_BENCH_201, num_classes=100, channels=32, cells_per_stage=2)
  images, betas = jnp.zeros((1, 8, 8, 3)), {'cell': jnp.zeros((6, 5))}
  init = jax.jit(jax.vmap(lambda key: supernet.init(key, images, betas)['params']))
  params = init(jax.random.split(jax.random.key(0), 8))
  checked = 0
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    name = jax.tree_util.keystr(path)
    if 'kernel' in name:
      fan_in = leaf.shape[-2] if 'classifier' in name else np.prod(leaf.shape[-4:-1])
      # a uniform sample's variance is known to 0.9/√size: 1 % for the smallest tensor, the stem's
      np.testing.assert_allclose(np.mean(np.square(leaf)) * 3 * fan_in, 1, rtol=0.05, err_msg=name)
      assert np.abs(leaf).max() <= 1 / np.sqrt(fan_in) * (1 + 1e-6)
      checked += 1
  assert checked == 3 * 12 + 2 * 3 + 2
  bias = params['network']['classifier']['bias']
  assert 0.5 / np.sqrt(128) < np.abs(bias).max() <= 1 / np.sqrt(128)


def test_cells_of_a_stage_start_differently():
  supernet = Supernet(NAS_BENCH_201, num_classes=2, channels=2, cells_per_stage=2)
  params = jax.jit(supernet.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), {'cell': jnp.zeros((6, 5))})['params']
  kernel = params['network']['stage1']['edge_1_0']['nor_conv_3x3']['conv']['kernel']
  assert kernel.shape == (2, 3, 3, 2, 2)
  assert not np.array_equal(kernel[0], kernel[1])


def test_one_hot_supernet_is_the_discrete_network():
  supernet = Supernet(NAS_BENCH_201, num_classes=10, channels=4, cells_per_stage=2)
  images = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))
  variables = jax.jit(supernet.init)(jax.random.key(0), images, {'cell': jnp.zeros((6, 5))})
  forward = jax.jit(lambda betas: supernet.apply(variables, images, betas, train=True, mutable=['batch_stats'])[0])
  rng = np.random.default_rng(0)
  for _ in range(3):
    genotype = NAS_BENCH_201.random_genotype(rng)

    def discrete(tree, genotype=genotype):
      """The weights of the chosen operations, one level up: an edge is its operation."""
      stages = {}
      for name, stage in tree['network'].items():
        if name.startswith('stage'):
          edges = zip(NAS_BENCH_201.edges, genotype.operations, strict=True)
          edges = {f'edge_{t}_{s}': stage.get(f'edge_{t}_{s}', {}).get(op) for (t, s), op in edges}
          stage = {edge: weights for edge, weights in edges.items() if weights}
        stages[name] = stage
      return {'network': stages}

    network = NasBench201Network(genotype, 10, channels=4, cells_per_stage=2, affine=False)
    chosen = {collection: discrete(tree) for collection, tree in variables.items()}
    expected = jax.jit(lambda v, n=network: n.apply(v, images, train=True, mutable=['batch_stats'])[0])(chosen)
    np.testing.assert_allclose(forward(NAS_BENCH_201.one_hot(genotype)), expected, rtol=1e-4, atol=1e-5)


def test_bfloat16_touches_only_the_computation():
  supernet = Supernet(NAS_BENCH_201, num_classes=10, channels=4, cells_per_stage=1, dtype=jnp.bfloat16)
  images, betas = jnp.ones((2, 8, 8, 3)), {'cell': jnp.full((6, 5), 0.2)}
  run = lambda key: supernet.apply(
    supernet.init(key, images, betas), images, betas, train=True, mutable=['batch_stats']
  )
  logits, updates = jax.eval_shape(run, jax.random.key(0))
  variables = jax.eval_shape(supernet.init, jax.random.key(0), images, betas)
  assert {leaf.dtype for leaf in jax.tree.leaves((variables, updates, logits))} == {jnp.dtype('float32')}
  jaxpr = str(jax.make_jaxpr(run)(jax.random.key(0)))
  assert 'bf16[2,8,8,4]' in jaxpr

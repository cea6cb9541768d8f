import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import golden, nhwc
from linear_supernet import LinearSupernet

from beta_darts_jax import (
  NAS_BENCH_201,
  Hyperparameters,
  Relaxation,
  SearchSpace,
  SearchState,
  Supernet,
  softmax_betas,
)
from beta_darts_jax.method.diagnostics import (
  eigenvalues,
  entropies,
  make_curvature,
  make_diagnose,
  make_one_shot,
  num_skips,
  operation_shares,
  variances,
)
from beta_darts_jax.method.losses import make_loss
from beta_darts_jax.method.parts import resolve_parts
from beta_darts_jax.spaces.published import PUBLISHED


def test_the_official_networks_hessian():
  """Its columns and eigenvalues to 1e-5, in float64; the product is what Lanczos iterations see."""
  supernet = Supernet(NAS_BENCH_201, num_classes=10, channels=4, cells_per_stage=1)
  with jax.enable_x64(True):
    arrays, variables = golden('nas_bench_201_second_order', np.float64)
    alphas, variables = variables('before/')
    loss, batch = make_loss(supernet), (nhwc(arrays['x_valid']).astype(np.float64), arrays['y_valid'])
    of = lambda params, alphas: loss(params, softmax_betas(alphas), variables['batch_stats'], batch, jax.random.key(0))[
      0
    ]
    curvature = jax.jit(make_curvature(of), compiler_options={'xla_backend_optimization_level': 1})  # runs often
    product = lambda v: curvature(alphas, v, variables['params'])
    columns = np.stack([product({'cell': v.reshape(6, 5)})['cell'].ravel() for v in np.eye(30)])
    exact = eigenvalues(product, alphas)
    dominant = eigenvalues(product, alphas, exact=10, count=5)
  expected = arrays['alpha_hessian_eigenvalues']
  scale = np.abs(arrays['alpha_hessian']).max()
  np.testing.assert_allclose(columns, arrays['alpha_hessian'], atol=1e-5 * scale)
  np.testing.assert_allclose(np.sort(exact), expected, atol=1e-5 * np.abs(expected).max())
  assert np.all(np.diff(np.abs(exact)) <= 0) and len(exact) == 30
  np.testing.assert_allclose(dominant, exact[:5], rtol=1e-3)


def test_lanczos_finds_the_dominant_ones_of_a_large_operator():
  rng = np.random.default_rng(0)
  q = np.linalg.qr(rng.standard_normal((70, 70)))[0]
  spectrum = np.concatenate([[-9.0, 7.0, -5.0], rng.uniform(-1, 1, 67)])
  matrix = q * spectrum @ q.T

  def product(v):
    flat = matrix @ np.concatenate([v['normal'].ravel(), v['reduce'].ravel()])
    return {'normal': flat[:35].reshape(7, 5), 'reduce': flat[35:].reshape(7, 5)}

  zeros = {'normal': np.zeros((7, 5)), 'reduce': np.zeros((7, 5))}
  np.testing.assert_allclose(eigenvalues(product, zeros, count=3), spectrum[:3], rtol=1e-3)
  np.testing.assert_allclose(eigenvalues(product, zeros, exact=70)[:3], spectrum[:3], rtol=1e-8)


def test_eigenvalues_are_of_the_batch_of_alpha_and_theta_is_of_the_regularizer():
  """The decoupled decay changes α by −η·λ·softmax(α)/E. So log(θ₀/θ₁) = −η·λ·(β₀ − β₁) with one edge."""
  rng = np.random.default_rng(0)
  train, valid = ((rng.standard_normal((6, 3), np.float32), np.arange(6) % 2) for _ in range(2))
  params = {'w': jnp.asarray(rng.standard_normal((3, 2), np.float32))}
  state = SearchState.create({'params': params, 'batch_stats': {}}, {'cell': jnp.array([[0.3, -0.1]])})
  parts = resolve_parts('decoupled_beta_decay', 'first_order', Relaxation(), 'weight_sgd', 'alpha_adam')
  hyper = Hyperparameters(alpha_learning_rate=0.1, beta_decay_weight=2.0)
  measured = make_diagnose(LinearSupernet(), parts)(state, train, valid, hyper)

  def valid_loss(alpha):
    return make_loss(LinearSupernet())(params, softmax_betas({'cell': alpha}), {}, valid, jax.random.key(0))[0]

  hessian = jax.hessian(valid_loss)(state.alphas['cell']).reshape(2, 2)
  np.testing.assert_allclose(np.sort(measured['eigenvalues']), np.linalg.eigvalsh(hessian), rtol=1e-4, atol=1e-6)
  (theta,), (beta,) = measured['theta']['cell'], np.asarray(softmax_betas(state.alphas)['cell'])
  np.testing.assert_allclose(np.log(theta[0] / theta[1]), -0.1 * 2.0 * (beta[0] - beta[1]), rtol=1e-3)


def test_shares_and_skips():
  cell = NAS_BENCH_201.parse('|skip_connect~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|')
  assert operation_shares(cell) == {'skip': 2 / 6, 'none': 1 / 6, 'pool': 1 / 6} and num_skips(cell) == 2
  darts = PUBLISHED['DARTS_V2']
  assert operation_shares(darts) == {'skip': 5 / 16, 'none': 0.0, 'pool': 5 / 16} and num_skips(darts) == 2
  assert num_skips(PUBLISHED['MOBILENET_V2']) == 5


def test_entropies_and_variances():
  betas = {'cell': np.array([[0.25] * 4, [1.0, 0, 0, 0], [0.5, 0.5, 0, 0]])}
  np.testing.assert_allclose(entropies(betas)['cell'], [np.log(4), 0, np.log(2)])
  np.testing.assert_allclose(entropies({'cell': 3 * betas['cell']})['cell'], [np.log(4), 0, np.log(2)])
  for scale in (1, 3):
    np.testing.assert_allclose(variances({'cell': scale * betas['cell']})['cell'], [0, 3 / 16, 1 / 16])


@pytest.mark.parametrize('size', [4, 100])
def test_a_hessian_that_is_not_finite_is_an_arithmetic_error(size):
  with pytest.raises(ArithmeticError, match='not finite'):
    eigenvalues(lambda v: jax.tree.map(lambda x: x * np.nan, v), {'cell': np.zeros((1, size))})


def test_one_shot_batches_have_no_copies():
  """Fewer images than a batch: the accuracy of them all together, with their own statistics."""
  space = SearchSpace('small', 'nas_bench_201', 1, ('skip_connect', 'nor_conv_1x1'))
  supernet = Supernet(space, 4, channels=2, cells_per_stage=1)
  betas = softmax_betas(space.init_alphas(jax.random.key(0)))
  rng = np.random.default_rng(0)
  images, labels = rng.integers(0, 256, (30, 8, 8, 3), np.uint8), rng.integers(0, 4, 30).astype(np.int32)
  prepare = lambda x: x.astype(jnp.float32) / 255
  variables = jax.jit(supernet.init)(jax.random.key(1), prepare(images), betas)
  logits = jax.jit(lambda x: supernet.apply(variables, x, betas, train=True, mutable=['batch_stats'])[0])(
    prepare(images)
  )
  found = make_one_shot(supernet, prepare)(variables, [betas], jnp.asarray(images), jnp.asarray(labels))
  np.testing.assert_allclose(found, [np.mean(np.argmax(logits, -1) == labels)], rtol=1e-6)

"""Each way from α to β: its closed form, or its distribution, and what the mixed edge makes of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from beta_darts_jax import DARTS, NAS_BENCH_201, Hyperparameters, Relaxation, SearchSpace, Supernet, softmax_betas
from beta_darts_jax.method.losses import make_loss
from beta_darts_jax.method.perturbations import adversarial_perturbation, project_to_simplex, random_perturbation
from beta_darts_jax.method.relaxations import edge_weights
from beta_darts_jax.method.samplings import (
  concentration,
  dirichlet,
  gumbel,
  pathwise_dirichlet,
  pathwise_factors,
  soft_gumbel,
  softmax,
)
from beta_darts_jax.networks.mixed_operation import MixedOperation, shuffle_channels
from beta_darts_jax.networks.operations import OPERATIONS
from beta_darts_jax.networks.supernet import SearchCell

ALPHAS = {'cell': jax.random.normal(jax.random.key(0), (6, 5))}
HYPER = Hyperparameters(perturbation=0.2)
KEYS = jax.random.split(jax.random.key(1), 4000)


def draws(relaxation, **hyper):
  """β [draws, 6, 5]."""
  hyper = HYPER.replace(**hyper)
  return np.asarray(jax.jit(jax.vmap(lambda key: relaxation(ALPHAS, key, hyper)['cell']))(KEYS))


def test_gumbel_draws_each_operation_as_often_as_softmax_says():
  betas = draws(gumbel, temperature=0.5)
  assert set(np.unique(betas)) == {0.0, 1.0} and np.all(betas.sum(-1) == 1)
  np.testing.assert_allclose(betas.mean(0), softmax_betas(ALPHAS)['cell'], atol=4 * np.sqrt(0.25 / len(KEYS)))


@pytest.mark.parametrize('sampling', ['gumbel', 'two_paths'])
def test_a_supernet_of_drawn_paths_is_evaluated_at_the_most_likely_operation(sampling):
  betas = Relaxation(sampling).evaluation_betas(({'cell': jnp.array([[0.1, 2.0, -1.0]])}, {}), Hyperparameters())
  assert betas['cell'].tolist() == [[0.0, 1.0, 0.0]]


def test_gumbels_gradient_is_the_relaxed_ones():
  """τ·∂β/∂α = diag(s) − s·sᵀ, s the softmax at temperature τ: small where τ is high, none across edges."""
  key, hyper = jax.random.key(2), HYPER.replace(temperature=2.0)
  jacobian = jax.jacobian(lambda alpha: gumbel({'cell': alpha}, key, hyper)['cell'])(ALPHAS['cell'])
  noise = jax.random.gumbel(jax.random.split(key, 1)[0], (6, 5))
  s = jax.nn.softmax((jax.nn.log_softmax(ALPHAS['cell']) + noise) / 2)
  for e in range(6):
    np.testing.assert_allclose(jacobian[e, :, e], (np.diag(s[e]) - np.outer(s[e], s[e])) / 2, atol=1e-6)
  assert not np.any(jacobian[0, :, 1:])


def test_dirichlet_has_the_mean_and_variance_of_its_concentration():
  betas, c = draws(dirichlet), np.asarray(concentration(ALPHAS['cell']), np.float64)
  share = c / c.sum(-1, keepdims=True)
  np.testing.assert_allclose(betas.sum(-1), 1, rtol=1e-5)
  variance = share * (1 - share) / (c.sum(-1, keepdims=True) + 1)
  np.testing.assert_allclose(betas.mean(0), share, atol=4.5 * np.sqrt(variance.max() / len(KEYS)))
  np.testing.assert_allclose(betas.var(0), variance, rtol=0.25, atol=1e-3)
  np.testing.assert_allclose(Relaxation('dirichlet').mean((ALPHAS, {}))['cell'], share, rtol=1e-5)


@pytest.mark.parametrize('sampling', ['softmax', 'gumbel', 'dirichlet', 'sigmoid'])
def test_logits_are_the_means_inverse(sampling):
  relaxation = Relaxation(sampling)
  betas = {'cell': jnp.array([[0.1, 0.2, 0.7], [0.0, 1.0, 0.0], [2.0, 1.0, 1.0]])}
  mean = relaxation.mean((relaxation.logits(betas), {}))['cell']
  np.testing.assert_allclose(mean, [[0.1, 0.2, 0.7], [0.0, 1.0, 0.0], [0.5, 0.25, 0.25]], atol=1e-6)


@pytest.mark.parametrize('temperature', [0.5, 3.0])
def test_a_soft_sample_is_the_softmax_of_perturbed_logits(temperature):
  """SNAS: softmax((log softmax(α) + G)/τ), with the Gumbel variables G of the key."""
  key = jax.random.key(2)
  noise = jax.random.gumbel(jax.random.split(key, 1)[0], (6, 5))
  expected = special.softmax((special.log_softmax(ALPHAS['cell'], axis=-1) + noise) / temperature, axis=-1)
  found = soft_gumbel(ALPHAS, key, HYPER.replace(temperature=temperature))['cell']
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_operations_of_fair_darts_do_not_compete():
  betas = Relaxation('sigmoid')((ALPHAS, {}), KEYS[0], HYPER)['cell']
  np.testing.assert_allclose(betas, 1 / (1 + np.exp(-ALPHAS['cell'])), rtol=1e-6)


def test_the_derivative_of_a_uniform_draw():
  """c = (1, 1): β₀ is uniform, ∂β₀/∂c₀ = −β₀·log β₀ and p = −β₀·log(β₀)/(1 − β₀), by the distribution x^a at b = 1."""
  x = jnp.array([[0.1, 0.9], [0.5, 0.5], [0.8, 0.2], [1e-6, 1 - 1e-6]])
  p = pathwise_factors(jnp.ones_like(x), x)
  np.testing.assert_allclose(p[:3], (-x * jnp.log(x) / (1 - x))[:3], rtol=1e-4)
  assert np.all(np.isfinite(p)) and np.all(p > 0)


def test_concentrations_are_right_where_elu_rounds():
  alpha = jnp.array([-50.0, -10.0, -1.0, 0.0, 2.0])
  np.testing.assert_allclose(concentration(alpha), [1e-8, np.exp(-10), np.exp(-1), 1, 3], rtol=1e-5)
  assert jax.grad(concentration)(0.0) == 1
  low = {'cell': jnp.array([[-50.0, -40.0, -30.0]])}
  assert np.all(np.isfinite(jax.grad(lambda a: dirichlet(a, KEYS[0], HYPER)['cell'][0, 0])(low)['cell']))


@pytest.mark.parametrize('draw', [dirichlet, pathwise_dirichlet])
def test_dirichlets_gradient_is_that_of_the_mean(draw):
  """The mean over draws of ∂β₀/∂α is the derivative of the mean: what makes the draws worth differentiating."""
  of_mean = jax.jacobian(lambda a: Relaxation('dirichlet').mean(({'cell': a}, {}))['cell'][0, 0])(ALPHAS['cell'])[0]
  one = lambda key: jax.grad(lambda a: draw({'cell': a}, key, HYPER)['cell'][0, 0])(ALPHAS['cell'])[0]
  found = np.asarray(jax.jit(jax.vmap(one))(KEYS))
  np.testing.assert_allclose(found.mean(0), of_mean, atol=5 * found.std(0).max() / np.sqrt(len(KEYS)))


def test_projected_rows_are_on_the_simplex():
  rows = jnp.array([[0.5, 0.5, 0.0], [-1.0, 2.0, 0.5], [-0.3, -0.1, -0.2]])
  np.testing.assert_allclose(
    project_to_simplex(rows), [[0.5, 0.5, 0.0], [0.0, 2 / 3, 1 / 3], [0.0, 1.0, 0.0]], rtol=1e-6
  )


def on_simplex(rows):
  clipped = np.clip(rows, 0, 1)
  return clipped / clipped.sum(-1, keepdims=True)


def test_random_perturbation_is_uniform_noise_brought_back_to_the_simplex():
  """β + U(−ε, ε), clipped and renormalised, entry by entry as drawn by NumPy; in the weight step only."""
  relaxation = Relaxation(perturbation='random')
  betas = draws(lambda alphas, key, hyper: relaxation.weight_betas((alphas, {}), key, hyper, lambda betas: 0.0))
  plain = np.asarray(softmax_betas(ALPHAS)['cell'])
  drawn = on_simplex(plain + np.random.default_rng(0).uniform(-0.2, 0.2, betas.shape))
  np.testing.assert_allclose(betas.sum(-1), 1, rtol=1e-5)
  for e, k in np.ndindex(6, 5):
    assert stats.ks_2samp(betas[:, e, k], drawn[:, e, k]).pvalue > 1e-4
  unperturbed = relaxation((ALPHAS, {}), KEYS[0], HYPER)['cell']
  np.testing.assert_array_equal(unperturbed, softmax(ALPHAS, None, None)['cell'])


def test_the_attack_is_seven_steps_of_the_sign():
  """2ε/7 each from a random start, never further than ε from β, then onto the simplex: by hand in NumPy."""
  betas, c = softmax_betas(ALPHAS), np.random.default_rng(1).standard_normal((6, 5))
  loss = lambda betas: jnp.sum(c * jnp.sin(5 * betas['cell']))
  current = np.asarray(random_perturbation(betas, KEYS[0], HYPER, None)['cell'], np.float64)
  plain = np.asarray(betas['cell'], np.float64)
  for _ in range(7):
    moved = current + 2 * 0.2 / 7 * np.sign(5 * c * np.cos(5 * current))
    current = on_simplex(plain + np.clip(moved - plain, -0.2, 0.2))
  found = adversarial_perturbation(betas, KEYS[0], HYPER, loss)['cell']
  np.testing.assert_allclose(found, current, atol=1e-5)


def test_the_attack_finds_the_worst_corner_of_a_linear_loss():
  """One edge of three: ascending c·β within ±ε of β moves all the weight it may to the largest c."""
  relaxation, c = Relaxation(perturbation='adversarial'), jnp.array([[1.0, 0.0, -1.0]])
  alphas = {'cell': jnp.zeros((1, 3))}
  loss = lambda betas: jnp.sum(c * betas['cell'])
  found = relaxation.weight_betas((alphas, {}), KEYS[0], HYPER.replace(perturbation=0.1), loss)['cell'][0]
  assert found[0] > 0.4 and found[2] < 0.27
  np.testing.assert_allclose(found.sum(), 1, rtol=1e-6)


def test_the_attack_is_taken_back_where_it_does_not_raise_the_loss():
  relaxation = Relaxation(perturbation='adversarial')
  plain = softmax_betas(ALPHAS)['cell']
  peak = lambda betas: -jnp.sum(jnp.square(betas['cell'] - plain))
  np.testing.assert_array_equal(relaxation.weight_betas((ALPHAS, {}), KEYS[0], HYPER, peak)['cell'], plain)


def test_edge_weights_add_up_to_one_at_every_node():
  logits = jnp.array([3.0, 1.0, 1.0, 0.0, np.log(2.0), np.log(5.0)])
  np.testing.assert_allclose(edge_weights(logits, NAS_BENCH_201.edges), [1, 0.5, 0.5, 1 / 8, 2 / 8, 5 / 8], rtol=1e-6)


def test_edges_are_weighed_and_derived_from():
  relaxation = Relaxation(edges=DARTS.edges)
  logits = relaxation.init_edge_logits(jax.random.key(0), DARTS)
  assert {name: value.shape for name, value in logits.items()} == {'normal': (14,), 'reduce': (14,)}
  assert 0 < float(jnp.std(logits['normal'])) < 2e-3 and Relaxation().init_edge_logits(jax.random.key(0), DARTS) == {}
  alphas = DARTS.init_alphas(jax.random.key(1))
  betas = relaxation((alphas, logits), KEYS[0], HYPER)
  expected = edge_weights(logits['normal'], DARTS.edges)[:, None] * softmax_betas(alphas)['normal']
  np.testing.assert_allclose(betas['normal'], expected, rtol=1e-6)
  np.testing.assert_array_equal(relaxation.mean((alphas, logits))['normal'], betas['normal'])
  strong = {'normal': logits['normal'].at[np.array([3, 4])].set(5.0), 'reduce': logits['reduce']}
  kept = DARTS.derive(jax.device_get(relaxation.mean((alphas, strong)))).normal.nodes[1]
  assert {source for _, source in kept} == {1, 2}  # edges 2, 3, 4 enter node 3


# ---- the mixed edge ----

SMALL = dict(num_classes=4, channels=4, cells_per_stage=1)
IMAGES = jax.random.normal(jax.random.key(3), (8, 8, 8, 3))


@pytest.mark.parametrize('stride', [1, 2])
def test_partial_channels_leave_the_others_alone(stride):
  """K=2 of 4 channels: the last two come out as they went in (max-pooled at stride 2), times the edge's weight."""
  names = ('none', 'skip_connect', 'max_pool_3x3', 'sep_conv_3x3')
  edge = MixedOperation(names, channels=4, stride=stride, normalize_pools=True, channel_divisor=2)
  x, betas = jax.random.normal(jax.random.key(4), (2, 8, 8, 4)), jnp.array([0.1, 0.2, 0.3, 0.2])
  variables = jax.jit(edge.init, static_argnums=2)(jax.random.key(5), x, True, betas)
  apply = jax.jit(lambda x: edge.apply(variables, x, True, betas, mutable=['batch_stats'])[0])
  y = apply(x)
  others = x[..., 2:] if stride == 1 else jnp.max(x[..., 2:].reshape(2, 4, 2, 4, 2, 2), axis=(2, 4))
  np.testing.assert_allclose(y[..., 1::2], 0.8 * others, rtol=1e-6)
  np.testing.assert_array_equal(apply(x.at[..., 2:].add(1.0))[..., ::2], y[..., ::2])  # nor do they touch the first
  assert not np.allclose(apply(x.at[..., 0].multiply(2.0))[..., ::2], y[..., ::2])


def test_operations_without_weights_see_channels_one_by_one():
  """So K = 2 gives on its half what K = 1 gives on all, and passes by the rest."""
  x, betas = jax.random.normal(jax.random.key(4), (2, 8, 8, 4)), jnp.array([0.5, 0.2])
  whole, half = (
    MixedOperation(('skip_connect', 'avg_pool_3x3'), 4, channel_divisor=k).apply({}, x, True, betas) for k in (1, 2)
  )
  np.testing.assert_array_equal(half[..., ::2], whole[..., :2])
  np.testing.assert_allclose(half[..., 1::2], 0.7 * x[..., 2:], rtol=1e-6)


def test_shuffle_channels_takes_of_each_group_in_turn():
  np.testing.assert_array_equal(shuffle_channels(jnp.arange(6), 3), [0, 2, 4, 1, 3, 5])


@pytest.mark.parametrize('unroll', [False, True])
def test_gradient_of_operations_that_are_not_drawn(unroll):
  """One edge draws skip: its β has the gradient ⟨c, x⟩, and those of the others Σc, for the output's gradient c."""
  space = SearchSpace('edge', 'nas_bench_201', 1, ('none', 'skip_connect', 'avg_pool_3x3'))
  cell = SearchCell(space, 'cell', channels=2, unroll=unroll, single_path=True, undrawn_gradient=True)
  c, x = np.random.default_rng(0).standard_normal((2, 2, 4, 4, 2), np.float32)

  @jax.jit
  @jax.grad
  def gradient(beta):
    return jnp.vdot(c, cell.apply({}, [x], {'cell': beta}, train=True))

  found = gradient(jnp.array([[0.0, 1.0, 0.0]]))
  np.testing.assert_allclose(found, [[c.sum(), np.vdot(c, x), c.sum()]], rtol=1e-5)


@pytest.mark.parametrize('unroll', [False, pytest.param(True, marks=pytest.mark.full)])
def test_only_the_sampled_operation_counts(unroll):
  """GDAS: output, gradients and running statistics are those of the one-hot network; others' statistics stay."""
  space = SearchSpace('small', 'nas_bench_201', 2, ('none', 'skip_connect', 'nor_conv_1x1'))
  full, single = (Supernet(space, **SMALL, unroll=unroll, single_path=s) for s in (False, True))
  alphas = {'cell': jax.random.normal(jax.random.key(3), space.alpha_shape)}
  variables = jax.jit(full.init)(jax.random.key(6), IMAGES, alphas)
  hyper = HYPER.replace(temperature=1.0)
  loss, labels = {s: make_loss(net) for s, net in ((False, full), (True, single))}, jnp.arange(8) % 4

  @jax.jit
  def both(key):
    betas = gumbel(alphas, key, hyper)
    of = lambda s: jax.value_and_grad(loss[s], argnums=(0, 1), has_aux=True)(
      variables['params'], betas, variables['batch_stats'], (IMAGES, labels), key
    )
    return betas, of(False), of(True)

  betas, ((value, (_, stats)), (weights, edges)), ((value_s, (_, stats_s)), (weights_s, edges_s)) = both(KEYS[0])
  np.testing.assert_allclose(value_s, value, rtol=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), weights_s, weights)
  chosen = np.asarray(betas['cell']) == 1
  np.testing.assert_allclose(np.asarray(edges_s['cell'])[chosen], np.asarray(edges['cell'])[chosen], atol=1e-5)
  assert not np.any(np.asarray(edges_s['cell'])[~chosen]) and np.any(np.asarray(edges['cell'])[~chosen])
  before = variables['batch_stats']['network']['stage1']
  moved = lambda stats, run, name, i: bool(
    jnp.any(
      stats['network']['stage1'][run][name]['batch_norm']['mean'][0, i] != before[run][name]['batch_norm']['mean'][0, i]
    )
  )
  (run,) = before
  assert np.any(chosen[:, 2:])
  for k, name in enumerate(space.candidates('cell')[0]):
    if name.startswith('nor_conv'):
      assert [moved(stats_s, run, name, e) for e in range(3)] == list(chosen[:, k])
      assert all(moved(stats, run, name, e) for e in range(3))


@pytest.mark.parametrize('space', [NAS_BENCH_201, DARTS], ids=lambda space: space.name)
def test_the_auxiliary_skip_is_beside_every_edge(space):
  """DARTS-: with weight 0 it changes nothing; its weight is the Hyperparameters'."""
  supernet = Supernet(space, 4, channels=4, cells_per_stage=1, layers=1)
  relaxation = Relaxation(auxiliary_skip=True)
  alphas = space.init_alphas(jax.random.key(0))
  of = lambda weight: relaxation((alphas, {}), KEYS[0], HYPER.replace(auxiliary_skip=weight))
  variables = jax.jit(supernet.init)(jax.random.key(6), IMAGES, of(1.0))
  apply = jax.jit(lambda betas: supernet.apply(variables, IMAGES, betas, train=True, mutable=['batch_stats'])[0])
  without = apply(softmax_betas(alphas))
  np.testing.assert_allclose(apply(of(0.0)), without, rtol=1e-4, atol=1e-5)
  assert np.abs(apply(of(1.0)) - without).max() > 1e-2


def test_the_auxiliary_skip_is_one_more_skip_of_the_mixed_operation():
  """ō(x) + b·x, by hand on one edge."""
  edge = MixedOperation(('none', 'avg_pool_3x3'), channels=3)
  x, betas = jax.random.normal(jax.random.key(7), (2, 4, 4, 3)), jnp.array([0.25, 0.75])
  pooled = OPERATIONS['avg_pool_3x3'](3, 1, False, None)(x, True)
  np.testing.assert_allclose(edge.apply({}, x, True, betas, 0.4), 0.75 * pooled + 0.4 * x, rtol=1e-5)

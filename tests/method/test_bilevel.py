"""The proof that the reimplementation is β-DARTS: steps of the official program, repeated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import FULLY_OPTIMIZED, golden, nhwc

from beta_darts_jax import DARTS, NAS_BENCH_201, Hyperparameters, SearchState, Supernet, make_search_step, softmax_betas
from beta_darts_jax.method.optimizers import alpha_adam, weight_sgd

SUPERNET = Supernet(NAS_BENCH_201, num_classes=10, channels=4, cells_per_stage=1)
STEP = make_search_step(SUPERNET)


@pytest.mark.parametrize('name', ['nas_bench_201_bilevel', 'nas_bench_201_bilevel_clip1'])
def test_three_official_steps(name):
  arrays, variables = golden(name)
  alphas, before = variables('before/')
  _, after = variables('after/')
  state = SearchState.create(jax.tree.map(jnp.asarray, before), jax.tree.map(jnp.asarray, alphas))
  for i, weight in enumerate((5.0, 5.5, 6.0)):
    train = (nhwc(arrays['x'][i]), arrays['y'][i].astype(np.int32))
    valid = (nhwc(arrays['x_valid'][i]), arrays['y_valid'][i].astype(np.int32))
    hyper = Hyperparameters(beta_decay_weight=weight, clip_norm=float(arrays['clip']))
    state, metrics = STEP(state, train, valid, hyper)
    np.testing.assert_allclose(state.alphas['cell'], arrays['alpha'][i], atol=1e-6)
    np.testing.assert_allclose(metrics['train_loss'], arrays['train_loss'][i], rtol=1e-5)

  def moved(actual, expected, start):
    assert np.linalg.norm(actual - expected) <= 1e-3 * np.linalg.norm(expected - start)

  jax.tree.map(moved, state.params, after['params'], before['params'])

  # running statistics after a train pass: evaluation of the official end state
  logits = SUPERNET.apply(after, nhwc(arrays['x'][0]), softmax_betas(state.alphas), train=False)
  np.testing.assert_allclose(logits, arrays['logits_eval'], rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(state.sums['train_loss'], arrays['train_loss'].sum(), rtol=1e-5)
  assert int(state.step) == 3


TRAJECTORIES = {  # file → (supernet, steps after which λ grows by 5)
  'nas_bench_201_trajectory': (Supernet(NAS_BENCH_201, 10, channels=8, cells_per_stage=1, unroll=True), 40),
  'darts_trajectory': (Supernet(DARTS, 10, channels=4, layers=4), 20),
}


@pytest.mark.parametrize(
  'name, steps',
  [
    ('nas_bench_201_trajectory', 50),
    pytest.param('nas_bench_201_trajectory', 400, marks=pytest.mark.full),
    pytest.param('darts_trajectory', 60, marks=pytest.mark.full),
  ],
)
def test_the_official_trajectory(name, steps):
  """float64: α after every step equals the official program's to 1e-12."""
  supernet, epoch = TRAJECTORIES[name]
  space = supernet.space
  with jax.enable_x64(True):
    arrays, variables = golden(name, np.float64, space)
    alphas, before = variables('before/')
    if space is DARTS:
      alphas = {cell_type: arrays[f'alphas_{cell_type}_before'] for cell_type in space.cell_types}
    state = SearchState.create(jax.tree.map(jnp.asarray, before), jax.tree.map(jnp.asarray, alphas))
    step = jax.jit(make_search_step(supernet), compiler_options=FULLY_OPTIMIZED)
    images = ((arrays['images'].astype(np.float32) / 255 - arrays['mean']) / arrays['std']).astype(np.float64)
    batch = lambda index: (images[index], arrays['labels'][index])
    worst = 0.0
    for i in range(steps):
      hyper = Hyperparameters(alpha_learning_rate=3e-3, beta_decay_weight=5.0 * (i // epoch))
      train, valid = batch(arrays['train_index'][i]), batch(arrays['valid_index'][i])
      state, metrics = step(state, train, valid, hyper)
      for cell_type in space.cell_types:
        expected = arrays['alpha' if cell_type == 'cell' else f'alphas_{cell_type}'][i]
        worst = np.maximum(worst, np.abs(state.alphas[cell_type] - expected).max())  # keeps NaN
      np.testing.assert_allclose(metrics['train_loss'], arrays['train_loss'][i], rtol=1e-6)
    assert worst < 1e-12
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype('float64')}


def test_weight_optimizer_by_hand():
  """w=2, g=3: clipped to 1, plus 0.1·2; the buffer then carries 0.9 of it."""
  optimizer = weight_sgd(Hyperparameters(learning_rate=0.5, weight_decay=0.1, clip_norm=1.0))
  params = jnp.array([2.0])
  state = optimizer.init(params)
  update, state = optimizer.update(jnp.array([3.0]), state, params)
  np.testing.assert_allclose(update, -0.5 * 1.2, rtol=1e-5)
  update, _ = optimizer.update(jnp.array([0.5]), state, params)
  np.testing.assert_allclose(update, -0.5 * (0.9 * 1.2 + 0.7), rtol=1e-5)


def test_alpha_decay_is_coupled():
  """The first step of Adam is the rate times the sign of gradient + decay·α, whatever its size."""
  optimizer = alpha_adam(Hyperparameters(alpha_learning_rate=0.1, alpha_weight_decay=1.0))
  params = jnp.array([2.0, 2.0])
  update, _ = optimizer.update(jnp.array([-1.0, -3.0]), optimizer.init(params), params)
  np.testing.assert_allclose(update, [-0.1, 0.1], rtol=1e-5)


def test_alpha_step_leaves_running_statistics_alone():
  """Other validation images change α, but not the running statistics that lie before it."""
  arrays, variables = golden('nas_bench_201_bilevel')
  alphas, before = variables('before/')
  state = SearchState.create(jax.tree.map(jnp.asarray, before), jax.tree.map(jnp.asarray, alphas))
  train = (nhwc(arrays['x'][0]), arrays['y'][0].astype(np.int32))
  ends = [
    STEP(state, train, (nhwc(arrays['x_valid'][i]), arrays['y_valid'][i].astype(np.int32)), Hyperparameters())[0]
    for i in (0, 1)
  ]
  stem = [end.batch_stats['network']['stem_batch_norm']['mean'] for end in ends]
  np.testing.assert_array_equal(*stem)
  assert not np.array_equal(*[end.alphas['cell'] for end in ends])

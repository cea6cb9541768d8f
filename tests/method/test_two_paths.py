"""The two-path sampling of ProxylessNAS (Cai et al., ICLR 2019, section 3.2.1): its draw, gradient and rescaling."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from beta_darts_jax import Hyperparameters, Relaxation, SearchSpace
from beta_darts_jax.method.optimizers import alpha_adam_two_paths
from beta_darts_jax.method.samplings import TINY, one_path, two_paths

ALPHA = jnp.array([[0.5, -0.3, 0.1, 0.9]])
P = np.asarray(jax.nn.softmax(ALPHA))[0].astype(float)
KEYS = jax.random.split(jax.random.key(1), 4000)


def draw(key, alpha=ALPHA):
  return two_paths({'cell': alpha}, key, None)['cell']


def test_two_operations_are_drawn_without_replacement_and_one_gate_is_open():
  betas = np.asarray(jax.jit(jax.vmap(draw))(KEYS))[:, 0]
  assert np.all((betas == 1).sum(-1) == 1) and np.all((betas == np.float32(TINY)).sum(-1) == 1)
  assert np.all((betas == 0).sum(-1) == 2)
  atol = 4 * np.sqrt(0.25 / len(KEYS))
  for i, j in itertools.combinations(range(4), 2):
    pair = (betas[:, [i, j]] > 0).all(-1)
    np.testing.assert_allclose(pair.mean(), P[i] * P[j] / (1 - P[i]) + P[j] * P[i] / (1 - P[j]), atol=atol)
    opened = (betas[pair][:, i] == 1).mean()
    np.testing.assert_allclose(opened, P[i] / (P[i] + P[j]), atol=4 * np.sqrt(0.25 / pair.sum()))


def test_two_operations_stay_open_when_the_weight_of_an_edge_multiplies_them():
  """The smallest normal number times a weight below 1 would be 0 in a compiled program."""
  space = SearchSpace('small', 'darts', 3, ('skip_connect', 'sep_conv_3x3', 'none'))
  relaxation = Relaxation('two_paths', edges=space.edges)
  architecture = (space.init_alphas(KEYS[0]), {name: jnp.zeros(len(space.edges)) for name in space.cell_types})
  betas = jax.jit(relaxation)(architecture, KEYS[1], Hyperparameters())
  assert all(np.all((beta > 0).sum(-1) == 2) for beta in betas.values())


def test_the_gradient_is_equation_4_of_the_two():
  """∂β_j/∂α_i = p_j·(δ_ij − p_i) with p = softmax of the two drawn logits; the others have no gradient."""
  key = KEYS[0]
  drawn = np.flatnonzero(np.asarray(draw(key))[0])
  p = np.exp(np.asarray(ALPHA)[0, drawn])
  p /= p.sum()
  expected = np.zeros((4, 4))
  expected[np.ix_(drawn, drawn)] = np.diag(p) - np.outer(p, p)
  jacobian = jax.jit(jax.jacobian(lambda alpha: draw(key, alpha)))(ALPHA)[0, :, 0]
  np.testing.assert_allclose(jacobian, expected, atol=1e-6)


def test_an_edge_with_one_candidate_has_one_path():
  assert draw(KEYS[0], jnp.zeros((3, 1))).tolist() == [[1.0]] * 3


def test_the_weight_step_draws_one_operation():
  relaxation, hyper = Relaxation('two_paths'), Hyperparameters()
  architecture = ({'cell': ALPHA}, {})
  of_alpha_step = np.asarray(relaxation(architecture, KEYS[0], hyper)['cell'])
  of_weight_step = np.asarray(relaxation.weight_betas(architecture, KEYS[0], hyper, lambda betas: 0.0)['cell'])
  assert (of_alpha_step > 0).sum() == 2 and (of_weight_step > 0).sum() == 1
  betas = np.asarray(jax.jit(jax.vmap(lambda key: one_path({'cell': ALPHA}, key, None)['cell']))(KEYS))
  np.testing.assert_allclose(betas.mean(0)[0], P, atol=4 * np.sqrt(0.25 / len(KEYS)))


def test_the_other_operations_keep_their_probability():
  """One of the two gains what the other one loses, step after step; the moments of the others stay 0."""
  hyper = Hyperparameters(alpha_learning_rate=0.1, alpha_b1=0.0, alpha_weight_decay=0.0)
  optimizer, alphas = alpha_adam_two_paths(hyper), {'cell': ALPHA}
  state = optimizer.init((alphas, {}))
  for _ in range(2):
    updates, state = optimizer.update(({'cell': jnp.array([[0.0, 0.2, 0.0, -0.2]])}, {}), state, (alphas, {}))
    alphas = {'cell': alphas['cell'] + updates[0]['cell']}
  after = np.asarray(jax.nn.softmax(alphas['cell']))[0]
  np.testing.assert_allclose(after[[0, 2]], P[[0, 2]], rtol=1e-6)
  np.testing.assert_allclose(after[1] / after[3], P[1] / P[3] * np.exp(-0.4), rtol=1e-5)  # Adam moves each by 0.1
  np.testing.assert_array_equal(np.asarray(alphas['cell'])[0, [0, 2]], np.asarray(ALPHA)[0, [0, 2]])

"""The gradients of single cells in β, and the derivative of their alignment in the weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from beta_darts_jax import SearchSpace, Supernet, softmax_betas
from beta_darts_jax.method.cell_gradients import StepInputs, make_cell_gradients, make_loss_of_offsets
from beta_darts_jax.method.losses import make_loss
from beta_darts_jax.method.regularizers import alignment

SPACE = SearchSpace('small', 'nas_bench_201', 2, ('none', 'skip_connect', 'nor_conv_1x1'))
SUPERNET = Supernet(SPACE, num_classes=4, channels=2, cells_per_stage=1)
RNG = np.random.default_rng(0)
BATCH = RNG.standard_normal((8, 8, 8, 3), np.float32), RNG.integers(0, 4, 8)
ALPHAS = {'cell': 0.3 * RNG.standard_normal(SPACE.alpha_shape, np.float32)}


def begin(supernet, betas):
  """The weights, and the other inputs of a step."""
  variables = jax.jit(supernet.init)(jax.random.key(0), BATCH[0], betas)
  return variables['params'], StepInputs(variables['batch_stats'], BATCH, jax.random.key(0))


@pytest.mark.parametrize('unroll', [False, True])
def test_cells_gradients_add_up(unroll):
  supernet, betas = SUPERNET.clone(unroll=unroll), softmax_betas(ALPHAS)
  loss, cell_gradients = make_loss(supernet), make_cell_gradients(supernet)
  params, inputs = begin(SUPERNET, betas)

  @jax.jit
  def both(betas):
    return cell_gradients(params, betas, inputs), jax.grad(lambda b: loss(params, b, *inputs)[0])(betas)

  cells, whole = both(betas)
  assert cells['cell'].shape == (3, *SPACE.alpha_shape)
  np.testing.assert_allclose(cells['cell'].sum(0), whole['cell'], rtol=1e-4, atol=1e-7)
  assert len(np.unique(np.asarray(cells['cell'])[:, 0, 1])) == 3


def test_cells_of_two_types():
  """The gradients of the cells add up, and offsets act on the cells in the order of the gradients."""
  space = SearchSpace('small', 'darts', 1, ('skip_connect', 'nor_conv_1x1'))
  supernet = Supernet(space, 4, channels=2, layers=4)  # normal, reduction, reduction, normal
  betas = softmax_betas(space.init_alphas(jax.random.key(1)))
  cell_gradients, loss = make_cell_gradients(supernet), make_loss_of_offsets(supernet)
  params, inputs = begin(supernet, betas)
  offsets, direction = {name: jnp.zeros((2, 2, 2)) for name in betas}, jnp.array([[1.0, -1.0], [1.0, -1.0]])

  @jax.jit
  def everything(betas):
    moved = offsets | {'reduce': offsets['reduce'].at[1].set(1e-3 * direction)}
    change = loss(params, betas, moved, inputs) - loss(params, betas, offsets, inputs)
    return cell_gradients(params, betas, inputs), jax.grad(loss, argnums=1)(params, betas, offsets, inputs), change

  found, whole, change = everything(betas)
  for name, cells in found.items():
    assert len(cells) == 2
    np.testing.assert_allclose(cells.sum(0), whole[name], rtol=1e-3, atol=1e-6)
  np.testing.assert_allclose(change, 1e-3 * jnp.vdot(found['reduce'][1], direction), rtol=0.1)


def test_the_alignments_gradient_is_its_slope():
  """∂Λ/∂w, by its own rule forward over reverse, against numerical differences in float64."""
  with jax.enable_x64(True):
    wide = lambda tree: jax.tree.map(lambda x: x.astype(jnp.float64), tree)
    cell_gradients, betas = make_cell_gradients(SUPERNET), softmax_betas(wide(jax.tree.map(jnp.asarray, ALPHAS)))
    params, (batch_stats, (images, labels), key) = begin(SUPERNET, betas)
    inputs = StepInputs(wide(batch_stats), (images.astype(np.float64), labels), key)
    params, unravel = ravel_pytree(wide(params))
    aligned = jax.jit(jax.value_and_grad(lambda flat: alignment(cell_gradients(unravel(flat), betas, inputs))))
    _, gradient = aligned(params)
    for seed in range(3):
      direction = np.random.default_rng(seed).standard_normal(params.shape)
      slope = (aligned(params + 1e-6 * direction)[0] - aligned(params - 1e-6 * direction)[0]) / 2e-6
      np.testing.assert_allclose(np.vdot(gradient, direction), slope, rtol=1e-5)

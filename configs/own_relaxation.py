"""A relaxation of your own: a softmax of noisy logits.

  python -m beta_darts_jax.main --config configs/own_relaxation.py --config.name=noises \
    --config.population.noise='(0.0, 0.1)'

A relaxation is a function (alphas, key, hyper) → betas that is differentiable in alphas. Cells are derived from the
mean of β. By default this mean is softmax(α). Here bd.Sampling gives another mean. bd.SCALARS adds a scalar, which
gets the keys search.noise and population.noise.
"""

import jax

import beta_darts_jax as bd
from beta_darts_jax.config import default

SHARPNESS = 2.0
bd.SCALARS['noise'] = 0.1  # standard deviation


def mean(alphas):
  """β without noise: {cell type: [E, O]}, E edges and O operations."""
  return {name: jax.nn.softmax(SHARPNESS * alpha) for name, alpha in alphas.items()}


def draw(alphas, key, hyper):
  """β of one step. `hyper` has the scalars of the step, such as hyper.epoch."""
  keys = jax.random.split(key, len(alphas))
  noisy = {
    name: alpha + hyper.scalars['noise'] * jax.random.normal(cell_key, alpha.shape)
    for cell_key, (name, alpha) in zip(keys, alphas.items(), strict=True)
  }
  return mean(noisy)


bd.RELAXATIONS['noisy'] = bd.Sampling(draw, mean=mean)


def get_config():
  config = default()
  config.name = 'own_relaxation'
  config.data.source, config.data.crop_padding, config.data.flip = 'digits', 1, False
  config.supernet.channels, config.supernet.cells_per_stage, config.supernet.unroll = 8, 1, False
  config.search.epochs, config.search.batch_size = 20, 32
  config.relaxation.sampling = 'noisy'
  return config

"""A regularizer of your own: spread, the variance of the logits of an edge. It has its own weight λ and schedule.

  python -m beta_darts_jax.main --config configs/own_regularizer.py
  python -m beta_darts_jax.main --config configs/own_regularizer.py --config.name=spread_weights \
    --config.population.seeds=2 --config.population.spread_weight='(0.0, 1.0)'

The second command compares λ_max = 0, which is plain DARTS, with λ_max = 1, for two seeds each. A weight with the name
x_weight gets the keys search.x_weight, search.x_schedule and population.x_weight. These keys exist because this file
registers the regularizer before it calls default().
"""

import jax
import jax.numpy as jnp

import beta_darts_jax as bd
from beta_darts_jax.config import default


def spread(alphas):
  """Mean over edges of the variance over operations, summed over cell types: a scalar."""
  return sum(jnp.mean(jnp.var(alpha, axis=-1)) for alpha in jax.tree.leaves(alphas))


bd.REGULARIZERS['spread'] = bd.from_penalty(spread, weight='spread_weight', mode='coupled')


def get_config():
  config = default()
  config.name = 'own_regularizer'
  config.data.source, config.data.crop_padding, config.data.flip = 'digits', 1, False
  config.supernet.channels, config.supernet.cells_per_stage, config.supernet.unroll = 8, 1, False
  config.search.epochs, config.search.batch_size = 20, 32
  config.search.regularizers = ('spread',)
  config.search.spread_weight = 1.0  # λ_max
  config.search.spread_schedule = 'linear'  # λ grows from 0; 'constant' is the default of your own weight
  return config

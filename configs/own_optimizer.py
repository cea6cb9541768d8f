"""Optimizers of your own: Lion for α, and SGD with Nesterov's momentum for the weights.

  python -m beta_darts_jax.main --config configs/own_optimizer.py

An optimizer is a function Hyperparameters → optax.GradientTransformation. It reads its rates and decays from
Hyperparameters, so a population can vary them. The shape of its state must not depend on these values.
"""

import optax

import beta_darts_jax as bd
from beta_darts_jax.config import default


def alpha_lion(hyper):
  decay = optax.add_decayed_weights(hyper.alpha_weight_decay)
  return optax.chain(
    decay, optax.lion(hyper.alpha_learning_rate, b1=hyper.alpha_b1, b2=hyper.alpha_b2, weight_decay=0.0)
  )


def weight_nesterov(hyper):
  return optax.chain(
    optax.clip_by_global_norm(hyper.clip_norm),
    optax.add_decayed_weights(hyper.weight_decay),
    optax.sgd(hyper.learning_rate, momentum=hyper.momentum, nesterov=True),
  )


bd.OPTIMIZERS.update(alpha_lion=alpha_lion, weight_nesterov=weight_nesterov)


def get_config():
  config = default()
  config.name = 'own_optimizer'
  config.data.source, config.data.crop_padding, config.data.flip = 'digits', 1, False
  config.supernet.channels, config.supernet.cells_per_stage, config.supernet.unroll = 8, 1, False
  config.search.epochs, config.search.batch_size, config.search.alpha_learning_rate = 20, 32, 1e-4
  config.search.weight_optimizer = 'weight_nesterov'
  config.search.alpha_optimizer = 'alpha_lion'
  return config

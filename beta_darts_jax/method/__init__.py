"""The algorithm: pure functions of (state, batch).

Start with `bilevel.py`. The exchangeable parts are in `regularizers.py`, `hypergradients.py`, `relaxations.py`,
`samplings.py`, `perturbations.py` and `optimizers.py`. This folder imports no network class and no config, and opens no
file.
"""

from beta_darts_jax.method.bilevel import make_search_step
from beta_darts_jax.method.hypergradients import HYPERGRADIENTS, Problem
from beta_darts_jax.method.optimizers import OPTIMIZERS, SCALARS, Hyperparameters
from beta_darts_jax.method.perturbations import PERTURBATIONS
from beta_darts_jax.method.regularizers import (
  REGULARIZERS,
  SCHEDULES,
  Regularizer,
  RegularizerContext,
  WeightContext,
  beta_decay,
  cost,
  from_penalty,
)
from beta_darts_jax.method.relaxations import Relaxation
from beta_darts_jax.method.samplings import RELAXATIONS, Sampling
from beta_darts_jax.method.state import SearchState

__all__ = [
  'HYPERGRADIENTS',
  'OPTIMIZERS',
  'PERTURBATIONS',
  'REGULARIZERS',
  'RELAXATIONS',
  'SCALARS',
  'SCHEDULES',
  'Hyperparameters',
  'Problem',
  'Regularizer',
  'RegularizerContext',
  'Relaxation',
  'Sampling',
  'SearchState',
  'WeightContext',
  'beta_decay',
  'cost',
  'from_penalty',
  'make_search_step',
]

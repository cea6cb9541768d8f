"""β-DARTS in JAX: differentiable architecture search with Beta-Decay, as pure functions."""

import importlib
from typing import TYPE_CHECKING

from beta_darts_jax.errors import InputError, NonFiniteLoss, Stopped
from beta_darts_jax.method import (
  HYPERGRADIENTS,
  OPTIMIZERS,
  PERTURBATIONS,
  REGULARIZERS,
  RELAXATIONS,
  SCHEDULES,
  Hyperparameters,
  Problem,
  Regularizer,
  RegularizerContext,
  Relaxation,
  Sampling,
  SearchState,
  WeightContext,
  beta_decay,
  cost,
  from_penalty,
  make_search_step,
)
from beta_darts_jax.networks import OPERATIONS, NasBench201Network, Network, Supernet, interop, operation_costs
from beta_darts_jax.spaces import (
  DARTS,
  DARTS_WITH_NONE,
  NAS_BENCH_201,
  PUBLISHED,
  S1,
  S2,
  S3,
  S4,
  Genotype,
  NasBench201,
  SearchSpace,
  softmax_betas,
)

if TYPE_CHECKING:
  from beta_darts_jax.config import default, default_retrain
  from beta_darts_jax.main import run_retrain, run_search
  from beta_darts_jax.report.loggers import LOGGERS
  from beta_darts_jax.retrain.export import export
  from beta_darts_jax.retrain.result import RetrainResult, load_run
  from beta_darts_jax.retrain.trained import TrainedNetwork
  from beta_darts_jax.runtime.devices import set_up
  from beta_darts_jax.search.result import SearchResult
  from beta_darts_jax.search.trained import load

__version__ = '0.1.0'
_LAZY = {  # imported at the first use, because the import takes long
  'LOGGERS': 'beta_darts_jax.report.loggers',
  'RetrainResult': 'beta_darts_jax.retrain.result',
  'SearchResult': 'beta_darts_jax.search.result',
  'TrainedNetwork': 'beta_darts_jax.retrain.trained',
  'default': 'beta_darts_jax.config',
  'default_retrain': 'beta_darts_jax.config',
  'export': 'beta_darts_jax.retrain.export',
  'load': 'beta_darts_jax.search.trained',
  'load_run': 'beta_darts_jax.retrain.result',
  'run_retrain': 'beta_darts_jax.main',
  'run_search': 'beta_darts_jax.main',
  'set_up': 'beta_darts_jax.runtime.devices',
}
__all__ = [
  'DARTS',
  'DARTS_WITH_NONE',
  'HYPERGRADIENTS',
  'LOGGERS',
  'NAS_BENCH_201',
  'OPERATIONS',
  'OPTIMIZERS',
  'PERTURBATIONS',
  'PUBLISHED',
  'REGULARIZERS',
  'RELAXATIONS',
  'S1',
  'S2',
  'S3',
  'S4',
  'SCHEDULES',
  'Genotype',
  'Hyperparameters',
  'InputError',
  'NasBench201',
  'NasBench201Network',
  'Network',
  'NonFiniteLoss',
  'Problem',
  'Regularizer',
  'RegularizerContext',
  'Relaxation',
  'RetrainResult',
  'Sampling',
  'SearchResult',
  'SearchSpace',
  'SearchState',
  'Stopped',
  'Supernet',
  'TrainedNetwork',
  'WeightContext',
  'beta_decay',
  'cost',
  'default',
  'default_retrain',
  'export',
  'from_penalty',
  'interop',
  'load',
  'load_run',
  'make_search_step',
  'operation_costs',
  'run_retrain',
  'run_search',
  'set_up',
  'softmax_betas',
]


def __getattr__(name: str):
  if name not in _LAZY:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  globals()[name] = getattr(importlib.import_module(_LAZY[name]), name)
  return globals()[name]

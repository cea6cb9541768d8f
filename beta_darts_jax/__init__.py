"""β-DARTS in JAX: differentiable architecture search with Beta-Decay, as pure functions."""

import signal
import sys
from typing import TYPE_CHECKING

if ('beta_darts_jax.main' in sys.orig_argv or sys.argv[0].endswith('beta-darts')) and signal.getsignal(
  signal.SIGINT
) is signal.default_int_handler:  # which it is not in the background
  # Ctrl-C simply ends the command while JAX is imported, which may lose a KeyboardInterrupt; see main.cli
  signal.signal(signal.SIGINT, signal.SIG_DFL)

from beta_darts_jax.errors import InputError
from beta_darts_jax.method.bilevel import make_search_step
from beta_darts_jax.method.hypergradients import HYPERGRADIENTS
from beta_darts_jax.method.optimizers import Hyperparameters
from beta_darts_jax.method.regularizers import REGULARIZERS, Regularizer, beta_decay
from beta_darts_jax.method.relaxations import Relaxation
from beta_darts_jax.method.state import SearchState
from beta_darts_jax.networks import interop
from beta_darts_jax.networks.discrete import NasBench201Network, Network
from beta_darts_jax.networks.supernet import Supernet
from beta_darts_jax.spaces.genotype import Genotype
from beta_darts_jax.spaces.space import (
  DARTS,
  DARTS_WITH_NONE,
  NAS_BENCH_201,
  S1,
  S2,
  S3,
  S4,
  SearchSpace,
  softmax_betas,
)

if TYPE_CHECKING:
  from beta_darts_jax.retrain.run import load_run
  from beta_darts_jax.spaces.nas_bench_201 import NasBench201

__version__ = '0.1.0'
__all__ = [
  'DARTS',
  'DARTS_WITH_NONE',
  'HYPERGRADIENTS',
  'NAS_BENCH_201',
  'REGULARIZERS',
  'S1',
  'S2',
  'S3',
  'S4',
  'Genotype',
  'Hyperparameters',
  'InputError',
  'NasBench201',
  'NasBench201Network',
  'Network',
  'Regularizer',
  'Relaxation',
  'SearchSpace',
  'SearchState',
  'Supernet',
  'beta_decay',
  'interop',
  'load_run',
  'make_search_step',
  'softmax_betas',
]


def __getattr__(name):  # rooms above the notebook's: one is also a program, one takes seconds to import
  if name == 'load_run':
    from beta_darts_jax.retrain.run import load_run as found
  elif name == 'NasBench201':
    from beta_darts_jax.spaces.nas_bench_201 import NasBench201 as found
  else:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  globals()[name] = found
  return found

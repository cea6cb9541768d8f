"""β-DARTS in JAX: differentiable architecture search with Beta-Decay, as pure functions.

Every public name is imported at its first use, so that `import beta_darts_jax` and `beta-darts --help` are quick.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `X as X` says that X is public (PEP 484)
  from beta_darts_jax.command.runs import (
    run_retrain as run_retrain,
    run_search as run_search,
  )
  from beta_darts_jax.config import (
    default as default,
    default_retrain as default_retrain,
  )
  from beta_darts_jax.errors import (
    InputError as InputError,
    NonFiniteLoss as NonFiniteLoss,
    Stopped as Stopped,
  )
  from beta_darts_jax.method import (
    HYPERGRADIENTS as HYPERGRADIENTS,
    OPTIMIZERS as OPTIMIZERS,
    PERTURBATIONS as PERTURBATIONS,
    REGULARIZERS as REGULARIZERS,
    RELAXATIONS as RELAXATIONS,
    SCALARS as SCALARS,
    SCHEDULES as SCHEDULES,
    Hyperparameters as Hyperparameters,
    Problem as Problem,
    Regularizer as Regularizer,
    RegularizerContext as RegularizerContext,
    Relaxation as Relaxation,
    Sampling as Sampling,
    SearchState as SearchState,
    WeightContext as WeightContext,
    beta_decay as beta_decay,
    cost as cost,
    from_penalty as from_penalty,
    make_search_step as make_search_step,
  )
  from beta_darts_jax.networks import (
    OPERATIONS as OPERATIONS,
    MobileNetwork as MobileNetwork,
    NasBench201Network as NasBench201Network,
    Network as Network,
    Supernet as Supernet,
    interop as interop,
    operation_costs as operation_costs,
  )
  from beta_darts_jax.report.loggers import (
    LOGGERS as LOGGERS,
  )
  from beta_darts_jax.retrain.export import (
    export as export,
  )
  from beta_darts_jax.retrain.result import (
    RetrainResult as RetrainResult,
    load_run as load_run,
  )
  from beta_darts_jax.retrain.trained import (
    TrainedNetwork as TrainedNetwork,
  )
  from beta_darts_jax.runtime.devices import (
    set_up as set_up,
  )
  from beta_darts_jax.search.result import (
    SearchResult as SearchResult,
  )
  from beta_darts_jax.search.trained import (
    load as load,
  )
  from beta_darts_jax.spaces import (
    DARTS as DARTS,
    DARTS_WITH_NONE as DARTS_WITH_NONE,
    MOBILE as MOBILE,
    NAS_BENCH_201 as NAS_BENCH_201,
    PUBLISHED as PUBLISHED,
    S1 as S1,
    S2 as S2,
    S3 as S3,
    S4 as S4,
    Genotype as Genotype,
    NasBench201 as NasBench201,
    SearchSpace as SearchSpace,
    softmax_betas as softmax_betas,
  )

__version__ = '0.1.0'
_NAMES = {  # module: its public names
  'command.runs': (
    'run_retrain', 'run_search',
  ),
  'config': (
    'default', 'default_retrain',
  ),
  'errors': (
    'InputError', 'NonFiniteLoss', 'Stopped',
  ),
  'method': (
    'HYPERGRADIENTS', 'Hyperparameters', 'OPTIMIZERS', 'PERTURBATIONS', 'Problem', 'REGULARIZERS', 'RELAXATIONS',
    'Regularizer', 'RegularizerContext', 'Relaxation', 'SCALARS', 'SCHEDULES', 'Sampling', 'SearchState',
    'WeightContext', 'beta_decay', 'cost', 'from_penalty', 'make_search_step',
  ),
  'networks': (
    'MobileNetwork', 'NasBench201Network', 'Network', 'OPERATIONS', 'Supernet', 'interop', 'operation_costs',
  ),
  'report.loggers': (
    'LOGGERS',
  ),
  'retrain.export': (
    'export',
  ),
  'retrain.result': (
    'RetrainResult', 'load_run',
  ),
  'retrain.trained': (
    'TrainedNetwork',
  ),
  'runtime.devices': (
    'set_up',
  ),
  'search.result': (
    'SearchResult',
  ),
  'search.trained': (
    'load',
  ),
  'spaces': (
    'DARTS', 'DARTS_WITH_NONE', 'Genotype', 'MOBILE', 'NAS_BENCH_201', 'NasBench201', 'PUBLISHED', 'S1', 'S2', 'S3',
    'S4', 'SearchSpace', 'softmax_betas',
  ),
}  # fmt: skip
_MODULE_OF = {name: f'{__name__}.{module}' for module, names in _NAMES.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str):
  if name not in _MODULE_OF:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  globals()[name] = getattr(importlib.import_module(_MODULE_OF[name]), name)
  return globals()[name]


def __dir__() -> list[str]:
  return sorted([*globals(), *__all__])

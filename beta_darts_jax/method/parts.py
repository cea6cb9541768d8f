"""The exchangeable parts of a bilevel step, checked and looked up by name."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from beta_darts_jax.errors import InputError
from beta_darts_jax.method.hypergradients import ASSUME_SGD, HYPERGRADIENTS
from beta_darts_jax.method.optimizers import OPTIMIZERS, Optimizer, weight_sgd, weight_sgd_oles
from beta_darts_jax.method.regularizers import REGULARIZERS, Regularizer, from_penalty
from beta_darts_jax.method.relaxations import Relaxation
from beta_darts_jax.method.samplings import Sampling

RegularizerLike = str | Callable | Regularizer
RelaxationLike = str | Callable | Sampling | Relaxation
OPTIMIZERS_OF_WEIGHTS = {name: optimizer for name, optimizer in OPTIMIZERS.items() if name.startswith('weight_')}
OPTIMIZERS_OF_ALPHA = {name: optimizer for name, optimizer in OPTIMIZERS.items() if name.startswith('alpha_')}
ORDERS = ('alpha_first', 'weights_first')  # β-DARTS and DARTS; GDAS, ProxylessNAS and Λ-DARTS


@dataclasses.dataclass(frozen=True)
class StepParts:
  """The parts of one bilevel step; see `make_search_step`.

  Attributes:
    regularizers: regularizers of α and of the weights.
    hypergradient: Problem → ((validation loss, accuracy), gradient of the architecture).
    relaxation: how α becomes β.
    weight_optimizer, alpha_optimizer: Hyperparameters → optax.GradientTransformation.
    flooding: whether the loss of the weights is flooded.
    order: which level takes its step first, one of ORDERS.
    class_weights: weights of the classes in the losses of both levels; () weights no class.
  """

  regularizers: tuple[Regularizer, ...]
  hypergradient: Callable
  relaxation: Relaxation
  weight_optimizer: Optimizer
  alpha_optimizer: Optimizer
  flooding: bool = False
  order: str = 'alpha_first'
  class_weights: tuple[float, ...] = ()

  @property
  def alpha_regularizers(self) -> tuple[Regularizer, ...]:
    """The regularizers that act on α."""
    return tuple(regularizer for regularizer in self.regularizers if regularizer.mode != 'weights')

  @property
  def weight_regularizers(self) -> tuple[Regularizer, ...]:
    """The regularizers that act on the weights."""
    return tuple(regularizer for regularizer in self.regularizers if regularizer.mode == 'weights')


def resolve_parts(
  regularizer: RegularizerLike | Sequence[RegularizerLike],
  hypergradient: str | Callable,
  relaxation: RelaxationLike,
  weight_optimizer: str | Optimizer,
  alpha_optimizer: str | Optimizer,
  flooding: bool = False,
  order: str = 'alpha_first',
  class_weights: Sequence[float] = (),
) -> StepParts:
  """Looks up the parts that are given by name and checks the others; arguments as in `make_search_step`.

  Raises:
    InputError: a part is not known, or not what is expected, or the parts do not fit together.
  """
  if order not in ORDERS:
    raise InputError(f'order={order!r}: expected one of {", ".join(ORDERS)}')
  parts = StepParts(
    regularizers=resolve_regularizers(regularizer),
    hypergradient=_find(hypergradient, HYPERGRADIENTS, 'hypergradient'),
    relaxation=relaxation if isinstance(relaxation, Relaxation) else Relaxation(sampling=relaxation),
    weight_optimizer=_find(weight_optimizer, OPTIMIZERS, 'weight_optimizer'),
    alpha_optimizer=_find(alpha_optimizer, OPTIMIZERS, 'alpha_optimizer'),
    flooding=flooding,
    order=order,
    class_weights=tuple(class_weights),
  )
  of_weights, of_alpha = OPTIMIZERS_OF_WEIGHTS, OPTIMIZERS_OF_ALPHA
  if parts.weight_optimizer in of_alpha.values() or parts.alpha_optimizer in of_weights.values():
    raise InputError(
      f'expected {", ".join(of_weights)} or your own optimizer for the weights, {", ".join(of_alpha)} or your own for α'
    )
  if parts.weight_optimizer is weight_sgd_oles and parts.relaxation.sampling.single_path:
    raise InputError(
      'weight_optimizer=weight_sgd_oles compares gradients of all operations: expected a relaxation that computes all '
      'of them, so not gumbel or two_paths'
    )
  if parts.weight_optimizer is weight_sgd_oles and flooding:
    raise InputError(
      'weight_optimizer=weight_sgd_oles compares gradients, and flooding reverses one of them: expected no flooding '
      '(flood_level=0)'
    )
  function: Any = getattr(parts.hypergradient, 'func', parts.hypergradient)  # of a functools.partial
  if function in ASSUME_SGD and parts.weight_optimizer is not weight_sgd:
    raise InputError(
      f'hypergradient={function.__name__} assumes weight_optimizer=weight_sgd: expected first_order or implicit with '
      'another optimizer of the weights'
    )
  return parts


def resolve_regularizers(given: RegularizerLike | Sequence[RegularizerLike]) -> tuple[Regularizer, ...]:
  """Returns the regularizers that are given: one or a sequence of names, Regularizers or scalar functions of α.

  Raises:
    InputError: one of them is none of these.
  """
  items = given if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
  return tuple(_resolve_regularizer(item) for item in items)


def _resolve_regularizer(given):
  if isinstance(given, Regularizer):
    return given
  if callable(given) and not isinstance(given, type):
    name = getattr(given, '__name__', '')
    if not name.isidentifier():
      raise InputError(f'regularizer={given!r}: expected a function with a name, or from_penalty(function, weight)')
    return from_penalty(given, f'{name}_weight')
  return _find(given, REGULARIZERS, 'regularizer')


def _find(given, table: Mapping[str, Any], argument: str):
  """Returns the part itself, or the entry of `table` with its name."""
  if isinstance(given, str) and given in table:
    return table[given]
  if isinstance(given, str) or not callable(given):
    raise InputError(f'{argument}={given!r}: expected a function, or one of {", ".join(table)}')
  return given

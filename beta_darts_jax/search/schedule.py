"""The hyperparameters of each epoch of a search."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

from beta_darts_jax.method.optimizers import SCALARS, Hyperparameters


@dataclasses.dataclass(frozen=True)
class Member:
  """One search of a population; a single search has one member.

  Attributes:
    seed: seed of its weights, its α and its order of images.
    varied: {name of a scalar: its value}, where the member differs from the config.
  """

  seed: int
  varied: Mapping[str, float] = dataclasses.field(default_factory=dict)

  def to_json(self) -> dict:
    """{'seed': …, name: value, …}, as result.json has it."""
    return {'seed': self.seed, **self.varied}


@dataclasses.dataclass(frozen=True)
class HyperparameterSchedule:
  """What `Hyperparameters` are in each epoch.

  Attributes:
    epochs: number of epochs of the search.
    steps_per_epoch: steps.
    scalars: {name: value} of the scalars that a population may vary. They are learning_rate, learning_rate_min,
      momentum, weight_decay, clip_norm, alpha_learning_rate, alpha_weight_decay, flood_level, the λ_max of each
      regularizer, the scalars of the hypergradient, and those of user-defined parts. Four more are the ends of linear
      schedules. The perturbation goes from epsilon to epsilon_max, which it reaches after the last epoch, as in the
      official SDARTS. The temperature goes from temperature to temperature_min in the last epoch, as in the official
      GDAS.
    warmup_epochs: first epochs, in which the learning rate of the weights is multiplied by (epoch + 1)/warmup_epochs.
    alpha_betas: b1 and b2 of α's Adam.
    alpha_epochs: α moves in the epochs of range(*alpha_epochs).
    weight_schedules: {name of a regularizer's weight: (λ_max, epoch, epochs) → λ}, of the regularizers in use.
    hypergradient_scalars: the names of the scalars that the hypergradient gets.
  """

  epochs: int
  steps_per_epoch: int
  scalars: Mapping[str, float]
  alpha_betas: tuple[float, float]
  alpha_epochs: tuple[int, int]
  weight_schedules: Mapping[str, Callable[[float, int, int], float]]
  hypergradient_scalars: tuple[str, ...] = ()
  warmup_epochs: int = 0

  def hyperparameters(self, member: Member, epoch: int) -> Hyperparameters:
    """Returns the scalars of one epoch, from 0, of one member."""
    scalars = {**self.scalars, **member.varied}
    weights = {name: schedule(scalars[name], epoch, self.epochs) for name, schedule in self.weight_schedules.items()}
    built_in_weights = {name: weight for name, weight in weights.items() if Hyperparameters.has_weight(name)}
    other_weights = {name: weight for name, weight in weights.items() if name not in built_in_weights}
    first_alpha_epoch, end_of_alpha = self.alpha_epochs
    moves_alpha = first_alpha_epoch <= epoch < end_of_alpha
    b1, b2 = self.alpha_betas
    warmup = min(1.0, (epoch + 1) / max(1, self.warmup_epochs))
    return Hyperparameters(
      learning_rate=warmup * cosine(scalars['learning_rate'], scalars['learning_rate_min'], epoch, self.epochs),
      momentum=scalars['momentum'],
      weight_decay=scalars['weight_decay'],
      clip_norm=scalars['clip_norm'],
      alpha_learning_rate=scalars['alpha_learning_rate'] if moves_alpha else 0.0,
      alpha_b1=b1,
      alpha_b2=b2,
      alpha_weight_decay=scalars['alpha_weight_decay'],
      flood_level=scalars['flood_level'],
      perturbation=linear(scalars['epsilon'], scalars['epsilon_max'], epoch, self.epochs),
      temperature=linear(scalars['temperature'], scalars['temperature_min'], epoch, max(1, self.epochs - 1)),
      auxiliary_skip=linear(1.0, 0.0, epoch, self.epochs),
      epoch=float(epoch),
      regularizer_weights=other_weights,
      hypergradient={name: scalars[name] for name in self.hypergradient_scalars},
      scalars={name: scalars[name] for name in SCALARS},
      **built_in_weights,
    )

  def alpha_travel(self, member: Member, epochs: int) -> float:
    """Returns the sum of α's learning rates over all steps of `epochs` epochs: about how far a logit can move."""
    rates = [self.hyperparameters(member, epoch).alpha_learning_rate for epoch in range(epochs)]
    return self.steps_per_epoch * sum(map(float, rates))

  def describe(self, members: Sequence[Member], epochs: int) -> str:
    """Returns a line about α in `epochs` epochs of all members: how far it can move, and the weights λ in use."""
    travels = [self.alpha_travel(member, epochs) for member in members]
    texts = [f'α moves by at most {_range(travels, ".2g")} in {epochs * self.steps_per_epoch:,} steps']
    hypers = [self.hyperparameters(member, epoch) for member in members for epoch in (0, epochs - 1)]
    texts += [f'{name} {_range([float(h.weight_of(name)) for h in hypers], ".3g")}' for name in self.weight_schedules]
    return ', '.join(texts)


def _range(values: Sequence[float], form: str) -> str:
  """Writes the smallest and the largest value, or one if both look the same."""
  return ' … '.join(dict.fromkeys(format(value, form) for value in (min(values), max(values))))


def cosine(maximum: float, minimum: float, epoch: int, epochs: int) -> float:
  """Returns a learning rate that falls from `maximum` in the first epoch towards `minimum` after the last one."""
  return minimum + (maximum - minimum) * (1 + math.cos(math.pi * epoch / epochs)) / 2


def linear(first: float, last: float, epoch: int, epochs: int) -> float:
  """Returns a value that goes linearly from `first` in epoch 0 to `last` in epoch `epochs`."""
  return first + (last - first) * epoch / epochs

"""How a network is trained: sizes, rates and their schedules."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Recipe:
  """The training of one network.

  Attributes:
    epochs: passes through the training images.
    batch_size: images.
    learning_rate: initial rate.
    schedule: a key of SCHEDULES.
    warmup_epochs: first epochs, in which the rate grows linearly.
    momentum, nesterov: momentum of SGD, and whether it has Nesterov's form.
    weight_decay: coupled.
    clip_norm: largest norm of the gradient; 0 turns clipping off.
    label_smoothing: share of the target that is spread over all classes.
    drop_path_rate: its rate grows linearly from 0 towards this one.
    ema_decay: decay of the moving average of the weights that is evaluated in their place; 0 turns it off.
    class_weights: factors of the losses of the images of each class; () weights no class.
  """

  epochs: int
  batch_size: int
  learning_rate: float
  schedule: str
  warmup_epochs: int = 0
  momentum: float = 0.9
  nesterov: bool = False
  weight_decay: float = 0.0
  clip_norm: float = 0.0
  label_smoothing: float = 0.0
  drop_path_rate: float = 0.0
  ema_decay: float = 0.0
  class_weights: tuple[float, ...] = ()

  def learning_rates(self, epoch: int, steps: int) -> np.ndarray:
    """Returns the learning rate of each step of an epoch: [steps] float32."""
    schedule = SCHEDULES[self.schedule]
    rates = np.array([schedule(self, epoch + i / steps) for i in range(steps)], np.float32)
    if epoch < self.warmup_epochs:
      rates[:] = self.learning_rate * (epoch + 1) / self.warmup_epochs
    return rates

  def drop_path_rate_in(self, epoch: int) -> np.float32:
    """Returns the drop-path rate of an epoch: drop_path_rate·epoch/epochs."""
    return np.float32(self.drop_path_rate * epoch / self.epochs)


# ---- schedules: (recipe, progress in epochs) → learning rate ----


def cosine_steps(recipe: Recipe, progress: float) -> float:
  """A cosine from the initial rate to 0, step by step."""
  return recipe.learning_rate * (1 + math.cos(math.pi * progress / recipe.epochs)) / 2


def cosine_epochs(recipe: Recipe, progress: float) -> float:
  """A cosine from the initial rate to 0, constant within an epoch."""
  return cosine_steps(recipe, math.floor(progress))


def linear_tail(recipe: Recipe, progress: float) -> float:
  """DARTS' schedule for ImageNet: linear over all but the last five epochs, then a slower line; it never reaches 0."""
  epoch, body = math.floor(progress), recipe.epochs - 5
  if epoch < body:
    return recipe.learning_rate * (body - epoch) / body
  return recipe.learning_rate * (recipe.epochs - epoch) / (body * 5)


SCHEDULES: dict[str, Callable[[Recipe, float], float]] = {
  'cosine_epochs': cosine_epochs,
  'cosine_steps': cosine_steps,
  'linear_tail': linear_tail,
}

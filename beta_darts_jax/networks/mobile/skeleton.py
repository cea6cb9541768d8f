"""What is around the searched layers, and the widths and strides of the stages.

Arrays are [B, H, W, C]: batch, height, width, channels.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from beta_darts_jax.errors import InputError
from beta_darts_jax.networks.initialization import Module
from beta_darts_jax.networks.layers import BatchNorm, Conv, classify
from beta_darts_jax.networks.operations import InvertedResidual

SMALL = 64  # pixels: up to this size, the stem and the first stage have the stride 1
_STAGES = ((1.5, 2), (2, 2), (4, 2), (6, 1), (10, 2), (20, 1))  # (width in multiples of C, stride)


class PlannedStage(NamedTuple):
  """A stage in the plan of a network; its first layer changes the number of channels and has the stride."""

  number: int  # from 0
  channels: int
  stride: int


def stem_stride(image_size: tuple[int, int]) -> int:
  """Returns the stride of the stem for images of (height, width)."""
  return 1 if max(image_size) <= SMALL else 2


def stage_plan(channels: int, image_size: tuple[int, int]) -> list[PlannedStage]:
  """Plans the stages of MobileNetV2 (Sandler et al., CVPR 2018, table 2), where C = 16 gives the widths of its 1.0.

  For images of at most SMALL pixels, the stem and the first stage have the stride 1 in place of 2, as in
  models/mobilenetv2.py of github.com/kuangliu/pytorch-cifar.

  Args:
    channels: C, an even number.
    image_size: (height, width) in pixels.

  Example:
    >>> [tuple(stage) for stage in stage_plan(16, (224, 224))]
    [(0, 24, 2), (1, 32, 2), (2, 64, 2), (3, 96, 1), (4, 160, 2), (5, 320, 1)]
  """
  first = stem_stride(image_size)
  return [PlannedStage(i, int(width * channels), stride if i else first) for i, (width, stride) in enumerate(_STAGES)]


def check_channels(channels: int) -> None:
  """Raises InputError if the widths of the stages are no integers."""
  if channels % 2:
    raise InputError(f'channels={channels}: expected an even number, because the first stage has 1.5·C channels')


class MobileSkeleton(Module):
  """stem to 2C → inverted residual without expansion to C → six stages → 1×1 convolution → mean → classifier.

  The last convolution has 80C channels, at least 1,280. `make_stage(PlannedStage)` returns a module with
  `__call__(x, *arguments, train)`, and the stages get the `arguments` of the network. Batch normalization outside the
  stages has scale and bias.
  """

  make_stage: Callable[[PlannedStage], nn.Module]
  num_classes: int
  channels: int = 16  # C
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, images, *arguments, train: bool):
    """Computes logits [B, num_classes] of images [B, H, W, C]."""
    size: Any = images.shape[1:3]
    x = Conv(2 * self.channels, 3, stride=stem_stride(size), dtype=self.dtype, name='stem_conv')(images)
    x = nn.relu6(BatchNorm(dtype=self.dtype, name='stem_batch_norm')(x, train))
    x = InvertedResidual(self.channels, expansion=1, dtype=self.dtype, name='first_block')(x, train)
    for stage in stage_plan(self.channels, size):
      x = self.make_stage(stage).clone(name=f'stage{stage.number + 1}', parent=self)(x, *arguments, train=train)
    x = Conv(max(80 * self.channels, 1280), 1, dtype=self.dtype, name='last_conv')(x)
    x = nn.relu6(BatchNorm(dtype=self.dtype, name='last_batch_norm')(x, train))
    return classify(x, self.num_classes)

"""How cells are stacked into a network: shared by supernets and discrete networks.

Arrays are [B, H, W, C]; N cells a stage.
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from beta_darts_jax.operations import BatchNorm, Conv, ReluConvBatchNorm, uniform_fan_in


class ResNetBlock(nn.Module):
  """NAS-Bench-201's reduction: two relu-conv-bn with stride 2, beside a pooled 1×1 shortcut without BatchNorm."""

  channels: int
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x, train: bool):  # [B, H, W, C] -> [B, H/2, W/2, channels]
    y = ReluConvBatchNorm(self.channels, 3, stride=2, dtype=self.dtype, name='conv_a')(x, train)
    y = ReluConvBatchNorm(self.channels, 3, dtype=self.dtype, name='conv_b')(y, train)
    return y + Conv(self.channels, 1, dtype=self.dtype, name='shortcut')(nn.avg_pool(x, (2, 2), (2, 2)))


def classify(module: nn.Module, x, num_classes: int):
  """Global mean and linear classifier, in float32 at least: [B, H, W, C] → [B, num_classes]."""
  x = jnp.mean(x.astype(jnp.promote_types(x.dtype, jnp.float32)), axis=(1, 2))

  def bias_init(key, shape, dtype=jnp.float32):  # PyTorch: U(±1/√fan_in) for the bias too
    return uniform_fan_in(key, (x.shape[-1], *shape), dtype)[0]

  return nn.Dense(num_classes, kernel_init=uniform_fan_in, bias_init=bias_init, name='classifier')(x)


class NasBench201Skeleton(nn.Module):
  """stem, then stages of N equal cells at C, 2C, 4C with a ResNet block between them, then the classifier.

  The cells of a stage are one scanned body: their variables have a leading axis N.

  Attributes:
    make_cell: channels → module with `__call__(x, *arguments, train)`.
  """

  make_cell: Callable[[int], nn.Module]
  num_classes: int
  channels: int = 16
  cells_per_stage: int = 5
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, images, *arguments, train: bool):  # [B, H, W, 3] -> [B, num_classes]
    scan_cells = nn.scan(
      lambda cell, x, *arguments: (cell(x, *arguments, train=train), None),
      variable_axes={'params': 0, 'batch_stats': 0},
      split_rngs={'params': True},
      in_axes=nn.broadcast,
      length=self.cells_per_stage,
    )
    x = Conv(self.channels, 3, dtype=self.dtype, name='stem_conv')(images)
    x = BatchNorm(dtype=self.dtype, name='stem_batch_norm')(x, train)
    for stage in range(3):
      channels = self.channels * 2**stage
      if stage:
        x = ResNetBlock(channels, self.dtype, name=f'reduction{stage}')(x, train)
      cell = self.make_cell(channels).clone(name=f'stage{stage + 1}', parent=self)
      x, _ = scan_cells(cell, x, *arguments)
    x = nn.relu(BatchNorm(dtype=self.dtype, name='last_batch_norm')(x, train))
    return classify(self, x, self.num_classes)


# SearchSpace.skeleton -> module class
SKELETONS = {'nas_bench_201': NasBench201Skeleton}

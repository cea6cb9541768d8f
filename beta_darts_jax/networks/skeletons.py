"""How cells are stacked into a network, for supernets and discrete networks alike.

A skeleton gets `make_cell(cell_type, channels)`, which returns a module with `__call__(inputs, *arguments, train)`, and
passes `arguments` (β, for a supernet) to every cell. Arrays are [B, H, W, C].
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from beta_darts_jax.errors import InputError
from beta_darts_jax.networks.initialization import Module
from beta_darts_jax.networks.layers import (
  BatchNorm,
  Conv,
  FactorizedReduce,
  ReluConvBatchNorm,
  classify,
  dense,
  scanned,
)
from beta_darts_jax.networks.mobile.skeleton import SMALL
from beta_darts_jax.networks.plan import cell_plan, equal_cells

MakeCell = Callable[[str, int], nn.Module]


# ---- NAS-Bench-201 ----


class ResNetBlock(Module):
  """NAS-Bench-201's reduction: two ReluConvBatchNorm, plus a shortcut of 2×2 average pool and 1×1 convolution.

  [B, H, W, C] → [B, H/2, W/2, channels].
  """

  channels: int
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x, train: bool):
    conv_a = ReluConvBatchNorm(self.channels, kernel_size=3, stride=2, dtype=self.dtype, name='conv_a')
    conv_b = ReluConvBatchNorm(self.channels, kernel_size=3, dtype=self.dtype, name='conv_b')
    shortcut = Conv(self.channels, 1, dtype=self.dtype, name='shortcut')
    return conv_b(conv_a(x, train), train) + shortcut(nn.avg_pool(x, (2, 2), (2, 2)))


class NasBench201Skeleton(Module):
  """stem → three stages of equal cells at C, 2C, 4C with a ResNetBlock between them → classifier.

  The cells have one input.
  """

  make_cell: MakeCell
  num_classes: int
  channels: int = 16  # C
  depth: int = 5  # number of cells in a stage
  unroll: bool = False  # compiles every cell of a stage separately
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, images, *arguments, train: bool):
    """Computes logits [B, num_classes] of images [B, H, W, C]."""

    def one_cell(cell, x, *arguments):
      return cell((x,), *arguments, train=train), None

    stage_of_cells = scanned(one_cell, self.depth, unroll=self.depth if self.unroll else 1)
    x = Conv(self.channels, 3, dtype=self.dtype, name='stem_conv')(images)
    x = BatchNorm(dtype=self.dtype, name='stem_batch_norm')(x, train)
    for stage in range(3):
      channels = self.channels * 2**stage
      if stage:
        x = ResNetBlock(channels, dtype=self.dtype, name=f'reduction{stage}')(x, train)
      cell = self.make_cell('cell', channels).clone(name=f'stage{stage + 1}', parent=self)
      x, _ = stage_of_cells(cell, x, *arguments)
    x = nn.relu(BatchNorm(dtype=self.dtype, name='last_batch_norm')(x, train))
    return classify(x, self.num_classes)


# ---- the DARTS family ----


class PreprocessedCell(Module):
  """A DARTS cell after the two 1×1 convolutions that bring its two inputs to C channels and to one size."""

  make_cell: MakeCell
  cell_type: str  # this and the next two: see PlannedCell
  channels: int
  after_reduction: bool
  affine: bool = True  # batch normalization of the two convolutions has scale and bias
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, older, newer, *arguments, train: bool):
    """Computes the cell on the outputs of the two cells before it."""
    shared: dict[str, Any] = {'channels': self.channels, 'affine': self.affine, 'dtype': self.dtype}
    preprocess0 = FactorizedReduce if self.after_reduction else ReluConvBatchNorm
    older = preprocess0(**shared, name='preprocess0')(older, train)
    newer = ReluConvBatchNorm(**shared, name='preprocess1')(newer, train)
    cell = self.make_cell(self.cell_type, self.channels).clone(name='cell', parent=self)
    return cell((older, newer), *arguments, train=train)


class AuxiliaryHead(Module):
  """A second classifier on the features after the last reduction, to train deep networks (Szegedy et al., 2015).

  relu → 5×5 average pool → 1×1 to 128 → BatchNorm → relu → 2×2 to 768 → (BatchNorm) → relu → linear.
  """

  num_classes: int
  pool_stride: int  # 3 on CIFAR (8×8 features), 2 on ImageNet (7×7); the pool leaves 2×2
  last_batch_norm: bool  # has the BatchNorm after the 768 channels: True on CIFAR, False on ImageNet, as in DARTS
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x, train: bool):
    x = nn.avg_pool(nn.relu(x), (5, 5), (self.pool_stride, self.pool_stride))
    x = Conv(128, 1, dtype=self.dtype, name='conv_1')(x)
    x = nn.relu(BatchNorm(dtype=self.dtype, name='batch_norm_1')(x, train))
    x = Conv(768, 2, padding=0, dtype=self.dtype, name='conv_2')(x)
    if self.last_batch_norm:
      x = BatchNorm(dtype=self.dtype, name='batch_norm_2')(x, train)
    x = nn.relu(x)
    return dense(x.reshape(len(x), -1), self.num_classes)


class DartsSkeleton(Module):
  """stem → cells with reductions at 1/3 and 2/3 of the depth → global mean → classifier.

  A cell takes the outputs of the two cells before it and concatenates its nodes. A run of equal cells is one loop body;
  its variables are called `cells_FIRST`, after its first layer, and have a leading axis if the run is longer than one.
  """

  make_cell: MakeCell
  num_classes: int
  channels: int = 16  # C of the first cells
  depth: int = 8  # number of cells
  affine: bool = True  # batch normalization of the preprocessing has scale and bias
  unroll: bool = False  # compiles every cell separately
  stem: str = 'cifar'  # 'cifar' is one 3×3 convolution to 3·C; 'imagenet' is three of stride 2 to stem_width·C
  stem_width: int = 1
  auxiliary: bool = False  # training also returns the logits of an AuxiliaryHead after cell 2·depth//3
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, images, *arguments, train: bool):
    """Computes logits [B, num_classes] of images [B, H, W, C], or (logits, auxiliary logits)."""

    def one_cell(cell, outputs, *arguments):
      older, newer = outputs
      return (newer, cell(older, newer, *arguments, train=train)), None

    outputs = self._imagenet_stem(images, train) if self.stem == 'imagenet' else self._cifar_stem(images, train)
    plan = cell_plan(self.depth, self.channels, reduced=self.stem == 'imagenet')
    auxiliary_logits = None
    for layer, length in equal_cells(plan):
      planned = plan[layer]._asdict()
      cell = PreprocessedCell(self.make_cell, **planned, affine=self.affine, dtype=self.dtype, name=f'cells_{layer}')
      cells = scanned(one_cell, length, unroll=length if self.unroll else 1) if length > 1 else one_cell
      outputs, _ = cells(cell, outputs, *arguments)
      if self.auxiliary and layer == 2 * self.depth // 3 and (train or self.is_initializing()):
        auxiliary_logits = self._auxiliary_head()(outputs[1], train)
    logits = classify(outputs[1], self.num_classes)
    return (logits, auxiliary_logits) if self.auxiliary and train else logits

  def _auxiliary_head(self):
    return AuxiliaryHead(
      num_classes=self.num_classes,
      pool_stride=2 if self.stem == 'imagenet' else 3,
      last_batch_norm=self.stem != 'imagenet',
      dtype=self.dtype,
      name='auxiliary_head',
    )

  def _cifar_stem(self, images, train):
    x = Conv(3 * self.channels, 3, dtype=self.dtype, name='stem_conv')(images)
    x = BatchNorm(dtype=self.dtype, name='stem_batch_norm')(x, train)
    return x, x

  def _imagenet_stem(self, images, train):
    channels = self.stem_width * self.channels
    x = Conv(channels // 2, 3, stride=2, dtype=self.dtype, name='stem0_conv_1')(images)
    x = nn.relu(BatchNorm(dtype=self.dtype, name='stem0_batch_norm_1')(x, train))
    x = Conv(channels, 3, stride=2, dtype=self.dtype, name='stem0_conv_2')(x)
    x = BatchNorm(dtype=self.dtype, name='stem0_batch_norm_2')(x, train)
    stem1 = ReluConvBatchNorm(channels, kernel_size=3, stride=2, dtype=self.dtype, name='stem1')
    return x, stem1(x, train)


# SearchSpace.skeleton → module class
SKELETONS: dict[str, Callable[..., nn.Module]] = {'nas_bench_201': NasBench201Skeleton, 'darts': DartsSkeleton}


def check_image_size(size: tuple[int, int], stem: str = 'cifar', auxiliary: bool = False) -> None:
  """Raises InputError if a network cannot reduce images of this (height, width) in pixels.

  The stems are those of `network.stem`. An auxiliary head needs 32×32 pixels with 'cifar', 224×224 with 'imagenet'.
  """
  factor = 32 if stem == 'imagenet' else 4
  if stem == 'mobile':
    factor = 8 if max(size) <= SMALL else 32
  smallest = {'imagenet': 224, 'cifar': 32}[stem] if auxiliary else factor
  if any(n % factor or n < smallest for n in size):
    minimum = f', at least {smallest} for the auxiliary head' if auxiliary else ''
    raise InputError(f'image size {size[0]}×{size[1]}: expected multiples of {factor}{minimum}')

"""How cells are stacked into a network: shared by supernets and discrete networks.

A skeleton takes `make_cell(cell_type, channels)` → module with `__call__(inputs, *arguments, train)`, and hands on
`arguments` (a supernet's β) untouched. Arrays are [B, H, W, C].
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from beta_darts_jax.errors import InputError
from beta_darts_jax.networks.initialization import Module, uniform_fan_in
from beta_darts_jax.networks.layers import BatchNorm, Conv, FactorizedReduce, ReluConvBatchNorm


class ResNetBlock(Module):
  """NAS-Bench-201's reduction: two relu-conv-bn with stride 2, beside a pooled 1×1 shortcut without BatchNorm."""

  channels: int
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x, train: bool):  # [B, H, W, C] -> [B, H/2, W/2, channels]
    y = ReluConvBatchNorm(channels=self.channels, kernel_size=3, stride=2, dtype=self.dtype, name='conv_a')(x, train)
    y = ReluConvBatchNorm(self.channels, kernel_size=3, dtype=self.dtype, name='conv_b')(y, train)
    return y + Conv(self.channels, 1, dtype=self.dtype, name='shortcut')(nn.avg_pool(x, (2, 2), (2, 2)))


def dense(x, num_classes: int):
  """The linear classifier, in float32 at least: [B, C] → [B, num_classes]. To be called in a compact method."""
  x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  init = uniform_fan_in(x.shape[-1])  # PyTorch: of the bias too
  return nn.Dense(num_classes, kernel_init=init, bias_init=init, name='classifier')(x)


def classify(x, num_classes: int):
  """Global mean and linear classifier: [B, H, W, C] → [B, num_classes]."""
  return dense(jnp.mean(x.astype(jnp.promote_types(x.dtype, jnp.float32)), axis=(1, 2)), num_classes)


def scanned(body: Callable, length: int, over=nn.broadcast, unroll: int = 1):
  """`body(module, carry, *arguments)` → (carry, None), `length` times as one compiled body.

  The module's variables get a leading axis; `arguments` are the same every time, or sliced along the axis `over`.
  """
  return nn.scan(
    body,
    variable_axes=dict.fromkeys(('params', 'batch_stats', 'intermediates', 'offsets'), 0),
    split_rngs={'params': True, 'draw': True},
    in_axes=over,
    length=length,
    unroll=unroll,
  )


class NasBench201Skeleton(Module):
  """stem, then three stages of equal cells at C, 2C, 4C with a ResNet block between them, then the classifier.

  Attributes:
    make_cell: see above; its one input is the stage's.
    num_classes: size of the logits.
    channels: C.
    depth: N cells a stage.
    affine: not used here: BatchNorm outside the cells always has scale and bias.
    unroll: compiles every cell of a stage by itself.
    dtype: of the computation.
  """

  make_cell: Callable[[str, int], nn.Module]
  num_classes: int
  channels: int = 16
  depth: int = 5
  affine: bool = True
  unroll: bool = False
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, images, *arguments, train: bool):  # [B, H, W, 3] -> [B, num_classes]
    one_cell = lambda cell, x, *arguments: (cell((x,), *arguments, train=train), None)
    stage_of_cells = scanned(one_cell, self.depth, unroll=self.depth if self.unroll else 1)
    x = Conv(self.channels, 3, dtype=self.dtype, name='stem_conv')(images)
    x = BatchNorm(dtype=self.dtype, name='stem_batch_norm')(x, train)
    for stage in range(3):
      channels = self.channels * 2**stage
      if stage:
        x = ResNetBlock(channels, self.dtype, name=f'reduction{stage}')(x, train)
      cell = self.make_cell('cell', channels).clone(name=f'stage{stage + 1}', parent=self)
      x, _ = stage_of_cells(cell, x, *arguments)
    x = nn.relu(BatchNorm(dtype=self.dtype, name='last_batch_norm')(x, train))
    return classify(x, self.num_classes)


class PreprocessedCell(Module):
  """A DARTS cell behind the two 1×1 convolutions that bring its inputs to C channels and one size.

  Attributes:
    make_cell: see above.
    cell_type: 'normal' or 'reduce'.
    channels: C.
    after_reduction: the cell before was a reduction, so the older input is twice as large.
    affine: BatchNorm of the preprocessing has scale and bias.
    dtype: of the computation.
  """

  make_cell: Callable[[str, int], nn.Module]
  cell_type: str
  channels: int
  after_reduction: bool
  affine: bool = True
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, older, newer, *arguments, train: bool):
    if self.after_reduction:
      older = FactorizedReduce(self.channels, affine=self.affine, dtype=self.dtype, name='preprocess0')(older, train)
    else:
      older = ReluConvBatchNorm(self.channels, affine=self.affine, dtype=self.dtype, name='preprocess0')(older, train)
    newer = ReluConvBatchNorm(self.channels, affine=self.affine, dtype=self.dtype, name='preprocess1')(newer, train)
    cell = self.make_cell(self.cell_type, self.channels).clone(name='cell', parent=self)
    return cell((older, newer), *arguments, train=train)


class AuxiliaryHead(Module):
  """A second classifier on the features after the last reduction, to train deep networks (Szegedy et al., 2015).

  relu → 5×5 average pool → 1×1 to 128 → BatchNorm → relu → 2×2 to 768 → (BatchNorm) → relu → linear.

  Attributes:
    num_classes: size of the logits.
    pool_stride: 3 on CIFAR (8×8 features), 2 on ImageNet (7×7): the pool leaves 2×2.
    last_batch_norm: BatchNorm after the 768: True on CIFAR, False on ImageNet (the field's networks differ in it).
    dtype: of the computation.
  """

  num_classes: int
  pool_stride: int
  last_batch_norm: bool
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


def cell_plan(depth: int, channels: int, reduced: bool = False) -> list[tuple[str, int, bool]]:
  """(cell type, C, whether after a reduction) of each cell: channels double at 1/3 and 2/3 of the depth.

  Args:
    depth: cells.
    channels: C of the first.
    reduced: the stem's two outputs differ in size, as after a reduction.

  Example:
    >>> cell_plan(4, 16)
    [('normal', 16, False), ('reduce', 32, False), ('reduce', 64, True), ('normal', 64, True)]
  """
  plan = []
  for layer in range(depth):
    reduction = layer in (depth // 3, 2 * depth // 3)
    channels *= 2 if reduction else 1
    plan.append(('reduce' if reduction else 'normal', channels, reduced))
    reduced = reduction
  return plan


def equal_cells(plan) -> list[tuple[int, int]]:
  """[(first layer, length)]: runs of cells that differ in nothing, not in the shapes of their inputs either."""
  runs: list[tuple[int, int]] = []
  for layer, cell in enumerate(plan):
    joins = layer >= 3 and all(other[:2] == cell[:2] for other in plan[layer - 3 : layer]) and cell[0] == 'normal'
    if joins:
      first, length = runs.pop()
      runs.append((first, length + 1))
    else:
      runs.append((layer, 1))
  return runs


class DartsSkeleton(Module):
  """stem, cells with reductions at 1/3 and 2/3 of the depth, global mean, classifier.

  Cells take the outputs of the two cells before them. Runs of equal cells (same type, channels and input channels) are
  one scanned body; `cells_FIRST` names a run by its first layer, and its variables have a leading axis.

  Attributes:
    make_cell: see above; gives the concatenation of its nodes.
    num_classes: size of the logits.
    channels: C of the first cells.
    depth: cells.
    affine: of the preprocessing's BatchNorm.
    unroll: compiles every cell by itself, where equal ones in a row are else one body.
    stem: 'cifar': one 3×3 convolution to 3·C. 'imagenet': three of stride 2.
    auxiliary: in training also gives the logits of an AuxiliaryHead after cell 2·depth//3.
    dtype: of the computation.
  """

  make_cell: Callable[[str, int], nn.Module]
  num_classes: int
  channels: int = 16
  depth: int = 8
  affine: bool = True
  unroll: bool = False
  stem: str = 'cifar'
  auxiliary: bool = False
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, images, *arguments, train: bool):  # [B, H, W, 3] -> [B, num_classes], or two of them
    older, newer = self._imagenet_stem(images, train) if self.stem == 'imagenet' else self._cifar_stem(images, train)
    plan = cell_plan(self.depth, self.channels, reduced=self.stem == 'imagenet')
    auxiliary_logits = None
    for layer, length in equal_cells(plan):
      of_cell = (self.make_cell, *plan[layer], self.affine, self.dtype)
      cell = PreprocessedCell(*of_cell, name=f'cells_{layer}')
      if length == 1:
        older, newer = newer, cell(older, newer, *arguments, train=train)
      else:
        one_cell = lambda cell, x, *arguments: ((x[1], cell(*x, *arguments, train=train)), None)
        run = scanned(one_cell, length, unroll=length if self.unroll else 1)
        (older, newer), _ = run(cell, (older, newer), *arguments)
      if self.auxiliary and layer == 2 * self.depth // 3 and (train or self.is_initializing()):
        stride = 2 if self.stem == 'imagenet' else 3
        head = AuxiliaryHead(self.num_classes, stride, self.stem != 'imagenet', self.dtype, name='auxiliary_head')
        auxiliary_logits = head(newer, train)
    logits = classify(newer, self.num_classes)
    return (logits, auxiliary_logits) if self.auxiliary and train else logits

  def _cifar_stem(self, images, train):
    x = Conv(3 * self.channels, 3, dtype=self.dtype, name='stem_conv')(images)
    x = BatchNorm(dtype=self.dtype, name='stem_batch_norm')(x, train)
    return x, x

  def _imagenet_stem(self, images, train):
    half = self.channels // 2
    x = Conv(half, 3, 2, dtype=self.dtype, name='stem0_conv_1')(images)
    x = nn.relu(BatchNorm(dtype=self.dtype, name='stem0_batch_norm_1')(x, train))
    x = Conv(self.channels, 3, 2, dtype=self.dtype, name='stem0_conv_2')(x)
    x = BatchNorm(dtype=self.dtype, name='stem0_batch_norm_2')(x, train)
    return x, ReluConvBatchNorm(self.channels, kernel_size=3, stride=2, dtype=self.dtype, name='stem1')(x, train)


# SearchSpace.skeleton -> module class
SKELETONS = {'nas_bench_201': NasBench201Skeleton, 'darts': DartsSkeleton}


def check_image_size(size: tuple[int, int], stem: str = 'cifar', auxiliary: bool = False) -> None:
  """Raises InputError if images of `size` (height, width) do not fit the skeleton's reductions."""
  factor = 32 if stem == 'imagenet' else 4
  features = {'imagenet': 7, 'cifar': 8}[stem] if auxiliary else 1
  if any(n % factor or n < factor * features for n in size):
    what = f'multiples of {factor}' + (
      f' from {factor * features} on, for the auxiliary head (else config.network.auxiliary_weight=0; a small image '
      'asks for a smaller config.data.cutout, too)'
      if auxiliary
      else ''
    )
    raise InputError(f'images are {size[0]}×{size[1]} pixels, allowed are {what}; see config.data.image_size')

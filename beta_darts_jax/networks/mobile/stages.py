"""The stages of a chain: of the supernet, and of the network of a genotype. Arrays are [B, H, W, C]."""

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from beta_darts_jax.errors import InputError
from beta_darts_jax.networks.initialization import Module
from beta_darts_jax.networks.layers import drop_path, scanned
from beta_darts_jax.networks.mixed_operation import MixedOperation
from beta_darts_jax.networks.mobile.skeleton import PlannedStage, stage_plan, stem_stride
from beta_darts_jax.networks.operations import OPERATIONS
from beta_darts_jax.spaces.genotype import Cell
from beta_darts_jax.spaces.space import SearchSpace


class Run(NamedTuple):
  """Layers of a stage that follow each other and have equal shapes and candidates."""

  first: int  # layer of the stage, from 0
  cell_type: str
  rows: tuple[int, ...]  # of the α of this type
  operations: tuple[str, ...]


def runs_of_stage(space: SearchSpace, stage: int) -> Iterator[Run]:
  """Yields the runs of a stage in order. Its first layer is a run of its own, because it changes the shape."""
  layers = sorted(
    (place.source, cell_type, row)
    for cell_type in space.cell_types
    for row, place in enumerate(space.places(cell_type))
    if place.cell == stage
  )

  def kind(layer):
    _, cell_type, row = layer
    return cell_type, space.candidates(cell_type)[row]

  for (cell_type, operations), run in itertools.groupby(layers, key=kind):
    equal = list(run)
    yield Run(equal[0][0], cell_type, tuple(row for *_, row in equal), operations)


def placed_layers(space: SearchSpace, channels: int, image_size: tuple[int, int]) -> Iterator[tuple]:
  """Yields (cell type, row and column of α, the fields of a costs.PlacedOperation) for each candidate of each layer."""
  width, size = channels, [math.ceil(pixels / stem_stride(image_size)) for pixels in image_size]
  for stage in stage_plan(channels, image_size):
    for run in runs_of_stage(space, stage.number):
      for row in run.rows:
        stride = 1 if run.first else stage.stride
        for k, name in enumerate(run.operations):
          yield run.cell_type, row, k, (name, stage.channels, stride, *size, width)
        width, size = stage.channels, [math.ceil(pixels / stride) for pixels in size]


class SearchStage(Module):
  """A stage of the supernet: each layer is a mixed operation with its own row of α.

  Equal layers are one loop body; their variables are called `edges_FIRST` and have a leading axis if they are several.
  """

  space: SearchSpace
  stage: PlannedStage
  unroll: bool = False  # this and the next three: see Supernet
  single_path: bool = False
  paths: int = 1
  undrawn_gradient: bool = False
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x, betas, train: bool):
    """Computes [B, H/stride, W/stride, channels] for {cell type: [E, O]}."""
    if 'auxiliary_skip' in betas:
      raise InputError('auxiliary skips: expected none in a space without cells, because layers change the shape')

    def one_layer(layer, x, weights):
      return layer(x, train, weights), None

    # See supernet.scanned_nodes. The drawn operations of a single path do the same themselves.
    if not (self.unroll or self.single_path):
      one_layer = nn.remat(one_layer, prevent_cse=False)
    for run in runs_of_stage(self.space, self.stage.number):
      layer = MixedOperation(
        operations=run.operations,
        channels=self.stage.channels,
        stride=1 if run.first else self.stage.stride,
        single_path=self.single_path,
        paths=self.paths,
        undrawn_gradient=self.undrawn_gradient,
        dtype=self.dtype,
        name=f'edges_{run.first}',
      )
      weights, length = betas[run.cell_type][np.array(run.rows)], len(run.rows)
      if length == 1:
        x = layer(x, train, weights[0])
      else:
        x, _ = scanned(one_layer, length, over=0, unroll=length if self.unroll else 1)(layer, x, weights)
    return x


class DiscreteStage(Module):
  """A stage of the network of a genotype: one operation in each layer."""

  cell: Cell
  stage: PlannedStage
  affine: bool = True  # of batch normalization
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x, drop_path_rate: jax.Array | None = None, *, train: bool):
    """Computes [B, H/stride, W/stride, channels].

    In training, `drop_path_rate` applies to what a layer adds to its input, so not to the first layer. It needs the
    stream 'draw'.
    """
    for i, name in enumerate(self.cell.operations):
      stride = 1 if i else self.stage.stride
      operation = OPERATIONS[name](channels=self.stage.channels, stride=stride, affine=self.affine, dtype=self.dtype)
      y = operation.clone(name=f'layer_{i}', parent=self)(x, train)
      if train and drop_path_rate is not None and i and name != 'skip_connect':
        y = x + drop_path(self.make_rng('draw'), y - x, drop_path_rate)
      x = y
    return x

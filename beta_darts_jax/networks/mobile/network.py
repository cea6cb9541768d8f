"""The trainable network of a genotype of a space without cells."""

import flax.linen as nn
import jax.numpy as jnp

from beta_darts_jax.errors import InputError
from beta_darts_jax.networks.initialization import Module
from beta_darts_jax.networks.mobile.skeleton import MobileSkeleton, PlannedStage, check_channels
from beta_darts_jax.networks.mobile.stages import DiscreteStage
from beta_darts_jax.networks.operations import known_operations
from beta_darts_jax.spaces.genotype import WITHOUT_WEIGHTS, Genotype
from beta_darts_jax.spaces.skeletons import STAGES


class MobileNetwork(Module):
  """The network of a genotype of six stages, such as MobileNetV2. A stage has one layer or more.

  Attributes:
    genotype: the stages.
    num_classes: number of logits.
    channels: C; 16 gives the widths of MobileNetV2 1.0.
    affine: batch normalization in the stages has scale and bias; False is as in the supernet.

  Raises:
    InputError: an operation is unknown, the genotype has not six stages, a stage begins with an operation that cannot
      change the number of channels, or C is odd.

  Example:
    >>> import jax
    >>> from beta_darts_jax.spaces.published import PUBLISHED
    >>> network, images = MobileNetwork(PUBLISHED['MOBILENET_V2'], num_classes=10), jnp.zeros((4, 32, 32, 3))
    >>> variables = jax.eval_shape(network.init, jax.random.key(0), images)  # shapes alone: nothing is compiled
    >>> jax.eval_shape(network.apply, variables, images).shape
    (4, 10)
  """

  genotype: Genotype
  num_classes: int
  channels: int = 16
  affine: bool = True
  dtype: jnp.dtype | None = None

  def __post_init__(self):
    if (stages := len(self.genotype.cells)) != STAGES:
      raise InputError(f'the genotype has {stages} stages: expected {STAGES}')
    known_operations(name for stage in self.genotype.cells for name in stage.operations)
    for number, stage in enumerate(self.genotype.cells):
      if not stage.operations:
        raise InputError(f'stage {number} has no layers: expected one or more')
      if (first := stage.operations[0]) in WITHOUT_WEIGHTS:
        raise InputError(f'stage {number} begins with {first}, which cannot change the number of channels')
    check_channels(self.channels)
    super().__post_init__()

  @nn.compact
  def __call__(self, images, drop_path_rate=None, *, train: bool = False):
    """Computes logits [B, num_classes] of images [B, H, W, C]; a `drop_path_rate` needs `rngs={'draw': key}`."""

    def make_stage(stage: PlannedStage) -> DiscreteStage:
      return DiscreteStage(self.genotype.cells[stage.number], stage, affine=self.affine, dtype=self.dtype)

    skeleton = MobileSkeleton(make_stage, self.num_classes, self.channels, dtype=self.dtype, name='network')
    return skeleton(images, *(() if drop_path_rate is None else (drop_path_rate,)), train=train)

"""The mixed operation of an edge: the sum of its candidate operations, weighted by β.

Legend: B batch, H and W height and width, C channels, O candidate operations of an edge.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from beta_darts_jax.networks.initialization import Module
from beta_darts_jax.networks.layers import BatchNorm
from beta_darts_jax.networks.operations import OPERATIONS, scale


class MixedOperation(Module):
  """ō(x) = Σ_k β_k·o_k(x): [B, H, W, C] → [B, H/stride, W/stride, C]. `none` adds nothing and is not computed.

  Attributes:
    channel_divisor: K of PC-DARTS (Xu et al., ICLR 2020). The operations see the first C/K channels. The others are
      multiplied by Σ_k β_k, the weight of the edge, and 2×2-max-pooled if the stride is 2. Then the channels are
      shuffled.
    single_path: training computes only the operation with the largest β, as in GDAS (Dong and Yang, CVPR 2019).
    paths: with single_path, the number of operations with the largest β that are computed where β is above 0, as in
      ProxylessNAS (Cai et al., ICLR 2019).
    undrawn_gradient: with single_path, adds the β of the other operations, which are 0, to the output. So they get the
      gradient of the sum of the output, as in the official GDAS of NAS-Bench-201.
  """

  operations: tuple[str, ...]
  channels: int
  stride: int = 1
  normalize_pools: bool = False  # a BatchNorm without affine parameters follows every pool, as in the DARTS family
  channel_divisor: int = 1
  single_path: bool = False
  paths: int = 1
  undrawn_gradient: bool = False
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x, train: bool, betas, auxiliary_skip=None):
    """Computes the edge for betas [O]; `auxiliary_skip` is the weight of a skip connection in parallel, or None."""
    mixed_channels = self.channels // self.channel_divisor
    mixed = x if self.channel_divisor == 1 else x[..., :mixed_channels]
    y = self._weighted_sum(mixed, train, betas)
    if auxiliary_skip is not None:
      y += self._operation('skip_connect', 'auxiliary_skip')(mixed, train, auxiliary_skip)
    if self.channel_divisor == 1:
      return y
    others = nn.max_pool(x, (2, 2), (2, 2)) if self.stride == 2 else x
    others = scale(jnp.sum(betas), others[..., mixed_channels:])
    return shuffle_channels(jnp.concatenate([y, others], axis=-1), self.channel_divisor)

  def _operation(self, candidate, name):
    """Returns a function of (x, train, weight) whose variables are called `name`."""
    channels = self.channels // self.channel_divisor
    operation = OPERATIONS[candidate](channels=channels, stride=self.stride, affine=False, dtype=self.dtype)
    operation = operation.clone(name=name, parent=self)
    if not (self.normalize_pools and 'pool' in candidate):
      return operation
    batch_norm = BatchNorm(affine=False, dtype=self.dtype, name=f'{name}_batch_norm', parent=self)

    def normalized(x, train, weight):
      return batch_norm(operation(x, train), train, weight)

    return normalized

  def _weighted_sum(self, x, train, betas):
    x_at_stride = x[:, :: self.stride, :: self.stride]
    total = jnp.zeros((*x_at_stride.shape[:-1], self.channels // self.channel_divisor), x.dtype)
    if self.single_path and train and not self.is_initializing():
      return self._drawn_operations(x, train, betas, total)
    for k, name in enumerate(self.operations):
      if name != 'none':
        total += self._operation(name, name)(x, train, betas[k])
    return total

  def _drawn_operations(self, x, train, betas, nothing):
    """Computes the drawn operations alone; `nothing` is the output of `none`.

    The backward pass computes them again. Otherwise JAX reserves memory for the intermediate results of all candidates.
    """

    def branch(mixed, x, betas, k=0):
      name = mixed.operations[k]
      return nothing if name == 'none' else mixed._operation(name, name)(x, train, betas[k])

    branches = [functools.partial(branch, k=k) for k in range(len(self.operations))]
    if self.paths == 1:
      drawn = jnp.argmax(betas)

      def only_path(mixed, x, betas):
        return nn.switch(drawn, branches, mixed, x, betas)

      y = nn.remat(only_path)(self, x, betas)
      return y + (jnp.sum(betas) - betas[drawn]).astype(y.dtype) if self.undrawn_gradient else y
    weights, drawn = lax.top_k(betas, min(self.paths, len(branches)))
    branches.append(lambda mixed, x, betas: nothing)

    def add_path(mixed, y, k):
      return y + nn.switch(k, branches, mixed, x, betas), None

    # one loop body, so that the program has each operation once
    add_paths = nn.scan(
      nn.remat(add_path, prevent_cse=False),
      variable_broadcast='params',
      variable_carry='batch_stats',
      split_rngs={'params': False, 'draw': True},
    )
    return add_paths(self, nothing, jnp.where(weights > 0, drawn, len(self.operations)))[0]


def shuffle_channels(x, groups: int):
  """Interleaves the channels of [..., C], one of each group in turn (ShuffleNet, Zhang et al., 2018)."""
  grouped = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
  return jnp.swapaxes(grouped, -1, -2).reshape(x.shape)

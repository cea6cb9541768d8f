"""How weights start: as PyTorch's do, U(±1/√fan_in), and all of them drawn at once.

The variance is 1/(3·fan_in), three times smaller than Flax's default, which
BatchNorm would turn into another learning rate. XLA:CPU takes 0.2 s to compile
each draw of jax.random, so a draw for every weight, as Flax does it, would make
the initialisation the slowest program of a small search to compile.
"""

import math

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

INITIAL = 0x696E6974  # sets the draw apart from the caller's other uses of the key


@flax.struct.dataclass
class Undrawn(nn.meta.AxisMetadata):
  """A weight that waits for its draw from U(±bound); not a number until then, so that nobody computes with it."""

  value: jax.Array
  bound: float = flax.struct.field(pytree_node=False)

  def unbox(self):
    return self.value

  def replace_boxed(self, value):
    return self.replace(value=value)

  def add_axis(self, index, params):
    del index, params
    return self

  def remove_axis(self, index, params):
    del index, params
    return self


def uniform_fan_in(fan_in: int | None = None):
  """A Flax initialiser: U(±1/√fan_in), to be drawn by Module.init; `fan_in` is that of a kernel […, C, D] if None."""

  def initializer(key, shape, dtype=jnp.float32):
    del key
    return Undrawn(jnp.full(shape, jnp.nan, dtype), 1 / math.sqrt(fan_in or math.prod(shape[:-1])))

  return initializer


class Module(nn.Module):
  """The base of all modules here: its `init` draws what `uniform_fan_in` left undrawn.

  A module of another base that contains these needs it too: their weights would stay NaN.
  """

  @nn.nowrap
  def init(self, rngs, *args, **kwargs):
    """Variables; arguments as of flax.linen.Module.init. To be jitted: one draw serves all weights."""
    _, variables = super().init_with_output(rngs, *args, **kwargs)
    return _drawn(rngs, variables)

  @nn.nowrap
  def init_with_output(self, rngs, *args, **kwargs):
    """(output with the drawn weights, variables)."""
    variables = self.init(rngs, *args, **kwargs)
    output, _ = self.apply(variables, *args, rngs=rngs, **(kwargs | {'mutable': True}))
    return output, variables


def _drawn(rngs, variables):
  leaves, tree = jax.tree.flatten(variables, is_leaf=lambda leaf: isinstance(leaf, Undrawn))
  undrawn = {i: leaf for i, leaf in enumerate(leaves) if isinstance(leaf, Undrawn)}
  if undrawn:
    key = jax.random.fold_in(rngs['params'] if isinstance(rngs, dict) else rngs, INITIAL)
    ends = np.cumsum([leaf.value.size for leaf in undrawn.values()])
    draws = jnp.split(jax.random.uniform(key, (ends[-1],), jnp.float32, minval=-1.0), ends[:-1])
    for (i, leaf), draw in zip(undrawn.items(), draws, strict=True):
      leaves[i] = leaf.bound * draw.reshape(leaf.value.shape).astype(leaf.value.dtype)
  return jax.tree.unflatten(tree, leaves)

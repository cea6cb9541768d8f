"""Candidate operations: small linen modules, chosen by name from OPERATIONS.

Arrays are [B, H, W, C]: batch, height, width, channels. Weights start as
PyTorch's do, U(±1/√fan_in), variance 1/(3·fan_in): three times smaller than
Flax's default, which BatchNorm would turn into another learning rate.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

uniform_fan_in = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')


def _plain_convolution(x, kernel, stride, padding):
  return lax.conv_general_dilated(
    x, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )


def _plain_gradients(stride, padding, x, kernel, cotangent):
  """Gradients of the convolution as XLA writes them: (x's, kernel's)."""
  return jax.vjp(lambda x, kernel: _plain_convolution(x, kernel, stride, padding), x, kernel)[1](cotangent)


def _canonical_gradients(stride, padding, x, kernel, cotangent):
  """The same sums as NHWC·HWIO convolutions, the only layout for which XLA:CPU has fast code.

  Left to itself, XLA:CPU runs them on a generic path when the program is large
  or a loop, many times slower. x's gradient: the (dilated) cotangent with the
  flipped kernel; the barrier keeps XLA from folding the transposition back
  into the convolution. kernel's gradient: x as [C, H, W, B] with the cotangent
  as its [H, W, B, D] filter.
  """
  size = kernel.shape[0]
  edges = [(size - 1 - padding, x.shape[a] + padding - 1 - (cotangent.shape[a] - 1) * stride) for a in (1, 2)]
  x_gradient = lax.conv_general_dilated(
    cotangent,
    lax.optimization_barrier(kernel[::-1, ::-1].transpose(0, 1, 3, 2)),
    (1, 1),
    edges,
    lhs_dilation=(stride, stride),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  kernel_gradient = lax.conv_general_dilated(
    x.transpose(3, 1, 2, 0),
    cotangent.transpose(1, 2, 0, 3),
    (1, 1),
    [(padding, padding)] * 2,
    rhs_dilation=(stride, stride),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  return x_gradient, kernel_gradient[:, :size, :size].transpose(1, 2, 0, 3)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolution(x, kernel, stride=1, padding=0):
  """2-D convolution, zero padding, equal on every backend; on CPU its gradients are written in canonical layout.

  Args:
    x: [B, H, W, C].
    kernel: [K, K, C, D].
    stride: step in both directions.
    padding: pixels of zeros on each side (PyTorch's meaning; not 'SAME' when strided).

  Returns:
    [B, H', W', D].
  """
  return _plain_convolution(x, kernel, stride, padding)


def _convolution_forward(x, kernel, stride, padding):
  return _plain_convolution(x, kernel, stride, padding), (x, kernel)


def _convolution_backward(stride, padding, residuals, cotangent):
  x, kernel = residuals
  return lax.platform_dependent(
    x,
    kernel,
    cotangent,
    cpu=functools.partial(_canonical_gradients, stride, padding),
    default=functools.partial(_plain_gradients, stride, padding),
  )


convolution.defvjp(_convolution_forward, _convolution_backward)


class Conv(nn.Module):
  """Convolution without bias, padding (kernel_size − 1)/2: [B, H, W, C] → [B, H/stride, W/stride, features]."""

  features: int
  kernel_size: int
  stride: int = 1
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x):
    shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
    kernel = self.param('kernel', uniform_fan_in, shape)
    x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
    if self.kernel_size == 1 and self.stride == 1:
      return jnp.einsum('bhwc,cd->bhwd', x, kernel[0, 0])  # faster on CPU, and safe when vmapped and sharded
    return convolution(x, kernel, self.stride, (self.kernel_size - 1) // 2)


class BatchNorm(nn.Module):
  """PyTorch's BatchNorm: momentum 0.1 (0.9 in Flax's terms), epsilon 1e-5, two-pass variance.

  The running variance is the biased one, as Flax keeps it (PyTorch: unbiased).
  """

  affine: bool = True
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x, train: bool):
    return nn.BatchNorm(
      use_running_average=not train,
      momentum=0.9,
      epsilon=1e-5,
      use_scale=self.affine,
      use_bias=self.affine,
      use_fast_variance=False,
      dtype=self.dtype,
      name='norm',
    )(x)


class ReluConvBatchNorm(nn.Module):
  """relu → convolution → BatchNorm, the order of the field."""

  features: int
  kernel_size: int
  stride: int = 1
  affine: bool = True
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x, train: bool):
    x = Conv(self.features, self.kernel_size, self.stride, self.dtype, name='conv')(nn.relu(x))
    return BatchNorm(self.affine, self.dtype, name='batch_norm')(x, train)


class SkipConnect(nn.Module):
  """The identity."""

  def __call__(self, x, train: bool):
    return x


class AveragePool(nn.Module):
  """3×3 mean, stride 1; padding does not count (PyTorch's count_include_pad=False); no BatchNorm after it."""

  def __call__(self, x, train: bool):
    y = nn.avg_pool(x, (3, 3), (1, 1), ((1, 1), (1, 1)), count_include_pad=False)
    return y.astype(x.dtype)  # Flax divides by float32 counts


class Zero(nn.Module):
  """`none`: no connection."""

  def __call__(self, x, train: bool):
    return jnp.zeros_like(x)


# name -> (channels, affine, dtype) -> module with __call__(x, train)
OPERATIONS = {
  'none': lambda channels, affine, dtype: Zero(),
  'skip_connect': lambda channels, affine, dtype: SkipConnect(),
  'nor_conv_1x1': lambda channels, affine, dtype: ReluConvBatchNorm(channels, 1, 1, affine, dtype),
  'nor_conv_3x3': lambda channels, affine, dtype: ReluConvBatchNorm(channels, 3, 1, affine, dtype),
  'avg_pool_3x3': lambda channels, affine, dtype: AveragePool(),
}

"""The 2-D convolution.

Legend: B batch, H and W height and width, C channels, D output channels, K and L height and width of the kernel.
"""

import functools

import jax
from jax import lax

from beta_darts_jax.networks.kernels.platform import by_platform, compile_separately

LAYOUT = ('NHWC', 'HWIO', 'NHWC')  # of the images, the kernel and the result of a convolution


def plain_convolution(x, kernel, strides, padding):
  """Computes `convolution` by XLA's operation, with XLA's own gradients."""
  return lax.conv_general_dilated(x, kernel, strides, [(p, p) for p in padding], dimension_numbers=LAYOUT)


def plain_gradients(x, kernel, cotangent, form, **options):
  """Computes the gradients of form(x, kernel, **options) in x and in the kernel, as XLA derives them."""
  return jax.vjp(functools.partial(form, **options), x, kernel)[1](cotangent)


def canonical_convolution_gradients(x, kernel, cotangent, strides, padding):
  """Computes `plain_gradients` as convolutions in the layout NHWC·HWIO, the only one for which XLA:CPU has fast code.

  In a large program or in a loop, XLA:CPU runs the plain gradients on a generic path that is many times slower.
  The gradient of x is the dilated cotangent convolved with the flipped kernel. The barrier keeps XLA from folding the
  transposition back into the convolution. The gradient of the kernel is x, seen as [C, H, W, B], convolved with the
  cotangent as its [H, W, B, D] filter.
  """
  height, width = kernel.shape[:2]
  sizes = zip(kernel.shape[:2], padding, x.shape[1:3], cotangent.shape[1:3], strides, strict=True)
  # zeros before and after the dilated cotangent, so that the gradient has the `before` rows (columns) of x
  edges = [(size - 1 - pad, before + pad - 1 - (after - 1) * stride) for size, pad, before, after, stride in sizes]
  flipped = lax.optimization_barrier(kernel[::-1, ::-1].transpose(0, 1, 3, 2))
  x_gradient = lax.conv_general_dilated(
    cotangent, flipped, (1, 1), edges, lhs_dilation=strides, dimension_numbers=LAYOUT
  )

  def kernel_gradient(x, cotangent):
    gradient = lax.conv_general_dilated(
      x.transpose(3, 1, 2, 0),
      cotangent.transpose(1, 2, 0, 3),
      (1, 1),
      [(p, p) for p in padding],
      rhs_dilation=strides,
      dimension_numbers=LAYOUT,
    )
    return gradient[:, :height, :width].transpose(1, 2, 0, 3)

  return x_gradient, compile_separately(kernel_gradient, kernel.ravel()[0], x, cotangent)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolution(x, kernel, strides=(1, 1), padding=(0, 0)):
  """Computes a 2-D convolution, the same on every backend: [B, H, W, C] and [K, L, C, D] give [B, H', W', D].

  `strides` are steps down and across. `padding` is the number of rows and columns of zeros on each side, as in PyTorch;
  with a stride it differs from 'SAME'.
  """
  return plain_convolution(x, kernel, strides, padding)


def _convolution_forward(x, kernel, strides, padding):
  return plain_convolution(x, kernel, strides, padding), (x, kernel)


@functools.partial(jax.jit, static_argnums=(0, 1))  # JAX traces this once for each shape, not for each layer
def _convolution_backward(strides, padding, residuals, cotangent):
  options, plain = {'strides': strides, 'padding': padding}, functools.partial(plain_gradients, form=plain_convolution)
  return by_platform(*residuals, cotangent, cpu=canonical_convolution_gradients, default=plain, **options)


convolution.defvjp(_convolution_forward, _convolution_backward)

"""The choice of a form for each backend, and the control of fusion on CPU."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

FORCE_PLAIN = False  # tests set it to run the accelerators' forms on CPU


def by_platform(*arrays, cpu: Callable, default: Callable, **options):
  """Returns cpu(*arrays, **options) on CPU and default(*arrays, **options) elsewhere.

  Under FORCE_PLAIN it returns the default everywhere.
  """
  cpu, default = functools.partial(cpu, **options), functools.partial(default, **options)
  return default(*arrays) if FORCE_PLAIN else lax.platform_dependent(*arrays, cpu=cpu, default=default)


# ---- control of XLA:CPU's fusion ----


def compile_separately(function: Callable, runtime_scalar: jax.Array, *arguments) -> jax.Array:
  """Computes function(*arguments) apart from the operations around it; NaN if `runtime_scalar` is NaN.

  XLA:CPU fuses an operation that looks cheap into each of its users, and so repeats it. A repeated transposition takes
  fifty times as long. XLA does not fuse across a conditional whose condition it cannot evaluate when it compiles, such
  as `runtime_scalar == runtime_scalar`. This can go when XLA:CPU no longer repeats such operations.
  """
  shape = jax.eval_shape(function, *arguments)
  nan = lambda *_: jnp.full(shape.shape, jnp.nan, shape.dtype)
  return lax.cond(runtime_scalar == runtime_scalar, function, nan, *arguments)


def _compute_once(x, runtime_scalar):
  separate_identity = functools.partial(compile_separately, lambda x: x)
  return by_platform(runtime_scalar, x, cpu=separate_identity, default=lambda _, x: x)


@jax.custom_vjp
def no_refusion(x: jax.Array, runtime_scalar: jax.Array) -> jax.Array:
  """Returns x. On CPU, x and its cotangent are computed once, not again in each of their users."""
  return _compute_once(x, runtime_scalar)


def _no_refusion_forward(x, runtime_scalar):
  return _compute_once(x, runtime_scalar), runtime_scalar


def _no_refusion_backward(runtime_scalar, cotangent):
  return _compute_once(cotangent, runtime_scalar), jnp.zeros_like(runtime_scalar)


no_refusion.defvjp(_no_refusion_forward, _no_refusion_backward)

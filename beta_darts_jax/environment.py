"""The devices that a run uses, and what an exact repetition of it needs to be the same."""

import contextlib
import os
import platform
from importlib import metadata

import jax
from jax.sharding import AxisType

from beta_darts_jax.errors import InputError


def make_mesh(devices: int, batch_size: int) -> jax.sharding.Mesh:
  """The devices that share a batch; 0: as many as divide it. Raises InputError."""
  available = len(jax.devices())
  if devices == 0:
    devices = max(n for n in range(1, available + 1) if batch_size % n == 0)
  if devices > available or batch_size % devices:
    raise InputError(
      f'config.devices={devices}: allowed are divisors of the batch size {batch_size} up to the {available} present'
    )
  return jax.make_mesh((devices,), ('data',), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])


def environment(mesh) -> dict:
  """What an exact repetition needs to be the same: versions, devices, cores."""
  packages = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
  return {
    'device': mesh.devices.flat[0].device_kind,
    'devices': mesh.size,
    'cores': len(os.sched_getaffinity(0)),
    'machine': platform.machine(),
    'python': platform.python_version(),
    'versions': {name: metadata.version(name) for name in packages},
  }


@contextlib.contextmanager
def compile_seconds():
  """A list of one number: the seconds that XLA spends on compiling inside the context, added up over threads."""
  total = [0.0]

  def listen(event, seconds, **_):
    if event == '/jax/core/compile/backend_compile_duration':
      total[0] += seconds

  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    yield total
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)

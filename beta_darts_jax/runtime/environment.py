"""What a run computes on: devices, versions, settings of JAX, the git commit, and the memory that it needed."""

import datetime
import functools
import os
import pathlib
import platform
import resource
import subprocess
import sys
from importlib import metadata

import jax

from beta_darts_jax import __version__

# settings of JAX that change results
JAX_SETTINGS = (
  'jax_enable_x64',
  'jax_default_prng_impl',
  'jax_default_matmul_precision',
  'jax_threefry_partitionable',
)
PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')


def environment(mesh: jax.sharding.Mesh) -> dict:
  """Returns the devices, cores, versions and settings of JAX. If they are equal, a run repeats to the last bit."""
  return {
    'device': mesh.devices.flat[0].device_kind,
    'devices': mesh.size,
    'mesh': dict(mesh.shape),
    'processes': jax.process_count(),
    'cores': len(os.sched_getaffinity(0)),
    'machine': platform.machine(),
    'processor': platform.processor(),
    'python': platform.python_version(),
    'versions': {name: metadata.version(name) for name in PACKAGES},
    'settings': {name: getattr(jax.config, name) for name in JAX_SETTINGS},
    'XLA_FLAGS': os.environ.get('XLA_FLAGS', ''),
  }


def origin() -> dict[str, str]:
  """Returns when a run starts, the version of the package and, if the package is a clone, the git commit."""
  now = datetime.datetime.now().astimezone().isoformat(timespec='seconds')
  return {'started': now, 'version': __version__} | ({'commit': commit} if (commit := git_commit()) else {})


@functools.cache
def git_commit() -> str:
  """The git commit of the clone that holds the package, with '-dirty' if files differ from it; '' without a clone."""
  clone = pathlib.Path(__file__).parents[2]
  if not (clone / '.git').exists():
    return ''
  command = ['git', '-C', str(clone), 'describe', '--always', '--dirty', '--abbrev=12', '--exclude=*']
  try:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
  except (OSError, subprocess.CalledProcessError):  # no git, or the clone belongs to another user
    return ''


def peak_memory() -> dict[str, int]:
  """Returns the peak memory in bytes: `host` (this process) and `device` (maximum over local devices, if reported)."""
  unit = 1 if sys.platform == 'darwin' else 1024
  peak = {'host': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
  devices = [(device.memory_stats() or {}).get('peak_bytes_in_use', 0) for device in jax.local_devices()]
  return peak | ({'device': max(devices)} if all(devices) else {})

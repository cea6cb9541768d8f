"""What an exact repetition of a run needs to be the same; memory."""

import contextlib
import os
import platform
import resource
import sys
from importlib import metadata

import jax


def environment(mesh) -> dict:
  """What an exact repetition needs to be the same: versions, devices, processes, cores and their model."""
  packages = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
  return {
    'device': mesh.devices.flat[0].device_kind,
    'devices': mesh.size,
    'mesh': dict(mesh.shape),
    'processes': jax.process_count(),
    'cores': len(os.sched_getaffinity(0)),
    'machine': platform.machine(),
    'processor': _processor(),
    'python': platform.python_version(),
    'versions': {name: metadata.version(name) for name in packages},
  }


def _processor() -> str:
  """The CPU's model where the system tells, as Linux does."""
  with contextlib.suppress(OSError), open('/proc/cpuinfo', encoding='utf-8') as file:
    for line in file:
      if line.startswith('model name'):
        return line.partition(':')[2].strip()
  return platform.processor()


def peak_memory() -> dict[str, int]:
  """The most bytes in use so far: of this process in 'host' memory; of its fullest 'device', where that is told."""
  unit = 1 if sys.platform == 'darwin' else 1024
  found = {'host': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
  devices = [(device.memory_stats() or {}).get('peak_bytes_in_use', 0) for device in jax.local_devices()]
  return found | ({'device': max(devices)} if all(devices) else {})

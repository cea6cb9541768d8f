"""What a run is spread over: the devices of a mesh, the members of a population, the processes of a cluster.

A mesh has the axes 'population' (members of a population, no communication) and 'data' (images of a batch; BatchNorm
is over the whole batch, so 1 and N devices search the same cell).
"""

import os
import pathlib
import re
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from beta_darts_jax.errors import InputError

# XLA:CPU gives float32 convolutions to YNNPACK, whose filter gradients are 3 to 12 times slower than Eigen's
_EIGEN_CONVOLUTIONS = (
  '--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE'
)
STRATEGIES = ('map', 'vmap')


# ---- before JAX's first operation ----


def set_up(cpu_devices: int = 0, cluster: str = 'auto', coordinator: str = '', processes: int = 0, process: int = 0):
  """Readies JAX: XLA's options, the compilation cache, the other processes. Call it before JAX's first operation.

  Args:
    cpu_devices: virtual devices where there is no accelerator; 0 is one, which uses every core.
    cluster: 'auto' joins the cluster that JAX detects (TPU pod, Slurm, …), 'none' looks for none.
    coordinator: HOST:PORT of process 0, for a cluster that is not detected; '' otherwise.
    processes: of that cluster.
    process: the number of this one.

  Raises:
    InputError: the cluster is not described as above, or the coordinator does not answer for five minutes.
  """
  _check_cluster(coordinator, processes, process)
  set_cpu_options(cpu_devices)
  folder = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache') / 'beta_darts_jax' / 'xla'
  if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
    jax.config.update('jax_compilation_cache_dir', str(folder))
  if coordinator and process:
    _await(coordinator)
  try:
    if coordinator:
      jax.distributed.initialize(coordinator, processes, process)
    elif cluster == 'auto':
      jax.distributed.initialize()
  except ValueError as error:
    if coordinator or 'coordinator_address should be defined' not in str(error):  # else: there is no cluster
      raise InputError(f'config.parallel.coordinator={coordinator}: {error}') from None
  except RuntimeError as error:  # of the connection
    raise InputError(f'cannot join the cluster of {coordinator or "the environment"}: {error}') from None


def _check_cluster(coordinator, processes, process):
  if not coordinator and (processes > 1 or process):
    raise InputError(
      f'config.parallel.processes={processes}, config.parallel.process={process}: allowed with a coordinator, HOST:PORT'
    )
  if coordinator:
    match = re.fullmatch(r'\S+:(\d{1,5})', coordinator)
    if not match or not 0 < int(match[1]) < 2**16:
      raise InputError(f'config.parallel.coordinator={coordinator!r}: allowed is HOST:PORT')
    if not process < processes:
      raise InputError(
        f'config.parallel.process={process} of config.parallel.processes={processes}: allowed are 0 … processes − 1'
      )


def _await(coordinator, seconds=300):
  """Until the coordinator answers: where it does not, JAX ends the process by a signal."""
  host, _, port = coordinator.rpartition(':')
  end = time.monotonic() + seconds
  while True:
    try:
      return socket.create_connection((host.strip('[]'), int(port)), timeout=5).close()
    except OSError as error:
      if time.monotonic() > end:
        raise InputError(f'config.parallel.coordinator={coordinator} does not answer: {error}') from None
      time.sleep(0.2)


def set_cpu_options(devices: int = 0) -> None:
  """How XLA compiles for CPU, and the number of virtual devices there (0: one); what the environment says stays."""
  flags = os.environ.get('XLA_FLAGS', '')
  if 'xla_cpu_experimental_ynn_fusion_type' not in flags:
    os.environ['XLA_FLAGS'] = f'{flags} {_EIGEN_CONVOLUTIONS}'.strip()
  if 'JAX_NUM_CPU_DEVICES' not in os.environ:
    jax.config.update('jax_num_cpu_devices', max(1, devices))
  if max(devices, int(os.environ.get('JAX_NUM_CPU_DEVICES', '0'))) > 1:
    # XLA:CPU may run independent collectives in another order on each device, and each blocks a thread of its pool:
    # with a thread a core a busy machine deadlocks (seen: "waiting for `all reduce`", then an abort)
    os.environ.setdefault('NPROC', str(4 * len(os.sched_getaffinity(0))))


# ---- devices ----


def mesh_shape(
  available: int, batch_size: int, members: int = 1, population: int = 0, data: int = 0
) -> tuple[int, int]:
  """(devices along 'population', along 'data') for a run; see make_mesh. Raises InputError."""
  divisors = lambda n, given: [d for d in range(1, n + 1) if n % d == 0 and given in (0, d)]
  shapes = [
    (p, d)
    for p in divisors(members, population)
    for d in divisors(batch_size, data)
    if p * d <= available and (d == 1 or data or batch_size // d >= 8)
  ]
  if not shapes:
    raise InputError(
      f'config.parallel.data={data}' + (f', config.parallel.population={population}' if population else '') + ': '
      f'allowed are divisors of the batch size {batch_size}'
      + (f' and of the {members} members' if population else '')
      + f', with a product up to the {available} device{"s" * (available > 1)} present '
      '(config.parallel.cpu_devices makes several of a CPU)'
    )
  return max(shapes, key=lambda shape: (shape[0] * shape[1], shape[0]))


def make_mesh(batch_size: int, members: int = 1, population: int = 0, data: int = 0) -> jax.sharding.Mesh:
  """The mesh ('population', 'data') of a run.

  Args:
    batch_size: images; a device has eight or more of them, unless `data` asks for less.
    members: of the population.
    population: devices along that axis, a divisor of `members`; 0 chooses.
    data: devices along that axis, a divisor of `batch_size`; 0 chooses.

  Returns:
    The mesh of the most devices; of equals the one with more along 'population', where nothing is communicated.

  Raises:
    InputError: no such mesh, or one that leaves a process without a device.
  """
  available = len(jax.devices())
  shape = mesh_shape(available, batch_size, members, population, data)
  size = shape[0] * shape[1]
  if jax.process_count() > 1 and size < available:
    raise InputError(
      f'batches of {batch_size} and {members} member{"s" * (members > 1)} occupy {size} of {available} devices: '
      'allowed with several processes are runs that occupy all'
    )
  axes = ('population', 'data')
  return jax.make_mesh(shape, axes, axis_types=(AxisType.Auto,) * 2, devices=jax.devices()[:size])


class Placement:
  """Puts arrays on the devices of a mesh.

  Attributes:
    sharding: replicated, or split along the first axis over `axis`.
  """

  def __init__(self, mesh, axis: str | None = None):
    self.sharding = NamedSharding(mesh, PartitionSpec(axis) if axis else PartitionSpec())
    self._data = NamedSharding(mesh, PartitionSpec('data'))

  def __call__(self, tree):
    """A tree of arrays that every process has whole."""
    return jax.tree.map(lambda x: _put(x, self.sharding), tree)

  def batch(self, x):
    """Inside a program: x is split along its first axis over 'data'."""
    return lax.with_sharding_constraint(x, self._data)

  def shares(self, tree):
    """Arrays of which every process gives its share of the first axis, split over 'data'."""
    with jax.transfer_guard('allow'):  # it is asked for, as by device_put
      return jax.tree.map(lambda x: jax.make_array_from_process_local_data(self._data, x), tree)

  def rows(self, tree):
    """Arrays that every process has whole, split along the first axis over 'data'."""
    return jax.tree.map(lambda x: _put(x, self._data), tree)


def _put(x, sharding):
  if jax.process_count() == 1:
    return jax.device_put(x, sharding)
  x = np.asarray(x)
  with jax.transfer_guard('allow'):  # it is asked for, as by device_put
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


def compile_together(*lowered) -> list:
  """What jax.jit(…).lower(…) gave, each compiled in a thread of its own: XLA compiles without Python's lock."""
  with ThreadPoolExecutor() as pool:
    return list(pool.map(lambda low: low.compile(), lowered))


# ---- members of a population ----


def map_members(function: Callable, strategy: str) -> Callable:
  """Of function(member, shared) → result makes the function of a stack of members, leading axis M, to results [M, …].

  Args:
    function: of the trees of one member, and of what all share.
    strategy: 'map' computes the members of a device one after the other, 'vmap' together. One member is simply called.
  """
  if strategy not in STRATEGIES:
    raise ValueError(f'strategy {strategy!r}: allowed are {", ".join(STRATEGIES)}')

  def every(stack, shared):
    one = lambda member: function(member, shared)
    if len(jax.tree.leaves(stack)[0]) == 1:
      return jax.tree.map(lambda x: x[None], one(jax.tree.map(lambda x: x[0], stack)))
    return jax.vmap(one)(stack) if strategy == 'vmap' else lax.map(one, stack)

  return every


def shard_population(function: Callable, mesh) -> Callable:
  """function(stack, shared), each device along 'population' with its members of the stack; 'data' stays automatic.

  By shard_map: vmapped convolutions that jit partitions over their members give wrong numbers.
  """
  split = PartitionSpec('population')
  return jax.shard_map(
    function,
    mesh=mesh,
    axis_names={'population'},
    in_specs=(split, PartitionSpec()),
    out_specs=split,
    check_vma=False,  # loops inside begin from zeros, which it takes to be the same on every device
  )


# ---- processes ----


class ToldElsewhere(InputError):
  """An InputError of process 0, which says it."""


def is_process_zero() -> bool:
  """Whether this process writes the files of the run and speaks."""
  return jax.process_index() == 0


def run_on_process_zero(function: Callable, *arguments):
  """function(*arguments) in process 0 only, the others wait; → its result, None in the others.

  Raises:
    InputError, OSError: of `function`; the others, ToldElsewhere.
  """
  if jax.process_count() == 1:
    return function(*arguments)
  result, failed = None, None
  if is_process_zero():
    try:
      result = function(*arguments)
    except (InputError, OSError) as error:
      failed = error
  if any_process(failed is not None):
    raise failed or ToldElsewhere('process 0 has said why')
  return result


def any_process(flag: bool) -> bool:
  """Whether `flag` is set in any process; every process must ask."""
  return flag if jax.process_count() == 1 else bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))

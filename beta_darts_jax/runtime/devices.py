"""The devices of a run: XLA's options, the mesh, where arrays lie, and how the members of a population share it.

A mesh has the axes 'population' and 'data'. The members of a population are split over 'population' and do not
communicate. The images of a batch are split over 'data'. BatchNorm takes its statistics over the whole batch, so a
search on N devices finds the same cell as on one.
"""

import os
import pathlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from beta_darts_jax.errors import InputError
from beta_darts_jax.runtime.processes import join_cluster, wait_for_all

_CPU_FLAGS = {
  # by default YNNPACK computes float32 convolutions; its filter gradients are 3 to 12 times slower than Eigen's
  'xla_cpu_experimental_ynn_fusion_type': 'LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE',
  'xla_cpu_prefer_vector_width': '512',  # bits; with AVX-512 a step in the DARTS space is 5 to 7 % faster than with 256
}
STRATEGIES = ('map', 'vmap')


# ---- before JAX's first operation ----


def set_up(
  cpu_devices: int = 0, cluster: str = 'auto', coordinator: str = '', processes: int = 0, process: int = 0
) -> None:
  """Sets XLA's options and the compilation cache, and joins the cluster. Call it before JAX's first operation.

  Args:
    cpu_devices: number of virtual CPU devices if there is no accelerator; 0 means one, which uses every core.
    cluster, coordinator, processes, process: see `join_cluster`.

  Raises:
    InputError: see `join_cluster`; or a variable of JAX has a value with which no run works; or JAX_PLATFORMS names an
      accelerator that is not there; or there is no folder for the cache.
  """
  _check_variables()
  set_cpu_options(cpu_devices)
  set_compilation_cache()
  join_cluster(cluster, coordinator, processes, process)
  _require_devices()


def _check_variables() -> None:
  """Raises InputError for values of JAX's variables with which the program does not run."""
  if (devices := os.environ.get('JAX_NUM_CPU_DEVICES', '1')).startswith(('0', '-')):
    raise InputError(f'JAX_NUM_CPU_DEVICES={devices}: expected 1 or more')
  for name, expected in (('jax_numpy_dtype_promotion', 'standard'), ('jax_numpy_rank_promotion', 'allow')):
    if (value := getattr(jax.config, name)) not in (expected, 'warn'):
      raise InputError(f'{name.upper()}={value}: expected {expected}')


def _require_devices() -> None:
  """Starts JAX's backends. Raises InputError if the accelerator that JAX_PLATFORMS names is not there."""
  try:
    jax.devices()
  except (RuntimeError, AssertionError) as error:  # AssertionError: the package of the accelerator is not installed
    if not (asked := jax.config.values['jax_platforms']):
      raise
    reason = str(error).partition(' (set JAX_PLATFORMS')[0] or 'its package is not installed'
    raise InputError(
      f'JAX_PLATFORMS={asked}: JAX finds no such device ({reason}); expected a device of this '
      'machine, such as cpu, or no JAX_PLATFORMS'
    ) from None


def describe_devices() -> str:
  """Returns the kind and the number of the devices, such as 'NVIDIA H200 (2 processes × 4 devices)'."""
  devices, processes = jax.devices(), jax.process_count()
  kinds = ', '.join(sorted({device.device_kind for device in devices}))
  each = len(devices) // processes
  plural = ('es' * (processes > 1), 's' * (each > 1))
  return f'{kinds} ({processes} process{plural[0]} × {each} device{plural[1]})'


def set_cpu_options(devices: int = 0) -> None:
  """Sets how XLA compiles for CPU, and the number of virtual CPU devices (0: one). Environment variables win."""
  given = os.environ.get('XLA_FLAGS', '')
  ours = [f'--{name}={value}' for name, value in _CPU_FLAGS.items() if name not in given]
  os.environ['XLA_FLAGS'] = ' '.join([given, *ours]).strip()
  if 'JAX_NUM_CPU_DEVICES' not in os.environ:
    jax.config.update('jax_num_cpu_devices', max(1, devices))
  if max(devices, int(os.environ.get('JAX_NUM_CPU_DEVICES', '0'))) > 1:
    # XLA:CPU may run independent collectives in another order on each device, and each collective blocks a thread of
    # its pool. With one thread a core, a busy machine can deadlock ("waiting for `all reduce`", then an abort).
    os.environ.setdefault('NPROC', str(4 * len(os.sched_getaffinity(0))))


def set_compilation_cache() -> None:
  """Keeps compiled programs in the user's cache folder, unless JAX_COMPILATION_CACHE_DIR names another.

  Raises:
    InputError: the user has no home folder, and no variable names a cache folder.
  """
  if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
    try:
      cache = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache')
    except RuntimeError:
      raise InputError('the user has no home folder: expected HOME, or XDG_CACHE_HOME=FOLDER for caches') from None
    jax.config.update('jax_compilation_cache_dir', str(cache / 'beta_darts_jax' / 'xla'))


# ---- the mesh ----


def mesh_shape(
  available: int, batch_size: int, members: int = 1, population: int = 0, data: int = 0
) -> tuple[int, int]:
  """Chooses the number of devices along 'population' and along 'data': the shape with the most devices.

  Of shapes with equally many, it takes the one with more devices along 'population', which communicate less.

  Args:
    available: number of devices.
    batch_size: images of a batch. Each device gets eight or more of them, unless `data` asks for fewer.
    members: members of the population.
    population: devices along 'population', a divisor of `members`; 0 chooses.
    data: devices along 'data', a divisor of `batch_size`; 0 chooses.

  Raises:
    InputError: no shape fits.
  """

  def divisors(n: int, given: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0 and given in (0, d)]

  shapes = [
    (p, d)
    for p in divisors(members, population)
    for d in divisors(batch_size, data)
    if p * d <= available and (d == 1 or data or batch_size // d >= 8)
  ]
  if not shapes:
    raise InputError(
      f'data={data}, population={population}: expected divisors of the batch size, {batch_size}, and of the number of '
      f'members, {members}, whose product is at most {available}, the number of devices; 0 chooses a divisor'
    )
  return max(shapes, key=lambda shape: (shape[0] * shape[1], shape[0]))


def make_mesh(batch_size: int, members: int = 1, population: int = 0, data: int = 0) -> Mesh:
  """Makes the mesh ('population', 'data') of a run, of the shape that `mesh_shape` chooses.

  Raises:
    InputError: no mesh fits, or it leaves a device of a run with several processes unused.
  """
  available = len(jax.devices())
  shape = mesh_shape(available, batch_size, members, population, data)
  size = shape[0] * shape[1]
  if jax.process_count() > 1 and size < available:
    whole = [(p, available // p) for p in range(members, 0, -1) if members % p == 0 and available % p == 0]
    values = [
      f'parallel.data={d}' + (f' and parallel.population={p}' if p > 1 else '') for p, d in whole if batch_size % d == 0
    ]
    raise InputError(
      f'batch size {batch_size} and {members} member{"s" * (members > 1)} use {size} of {available} devices: '
      'a run of several processes must use all devices; '
      + (f'set {values[0]}' if values else 'change the batch size or the number of devices')
    )
  axes = ('population', 'data')
  return jax.make_mesh(shape, axes, axis_types=(AxisType.Auto,) * 2, devices=jax.devices()[:size])


# ---- where arrays lie ----


def named_sharding(mesh: Mesh, axis: str | None = None) -> NamedSharding:
  """Returns the sharding that splits the first axis of an array over `axis`, or replicates the array."""
  return NamedSharding(mesh, PartitionSpec(axis) if axis else PartitionSpec())


def replicate(tree, mesh: Mesh):
  """Copies the arrays of `tree`, which every process has whole, to every device of the mesh."""
  return put(tree, named_sharding(mesh))


def shard(tree, mesh: Mesh, axis: str):
  """Splits the arrays of `tree`, which every process has whole, along their first axis over the mesh's `axis`."""
  return put(tree, named_sharding(mesh, axis))


def from_local(tree, mesh: Mesh, axis: int = 0):
  """Makes arrays whose `axis` is split over 'data' from the share of it that each process gives: its `local_rows`."""
  sharding = NamedSharding(mesh, PartitionSpec(*[None] * axis, 'data'))
  with jax.transfer_guard('allow'):  # an explicit transfer, like device_put
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), tree)


def local_rows(mesh: Mesh, batch_size: int) -> np.ndarray:
  """Returns the rows of a batch that the devices of this process have, ascending."""
  parts = named_sharding(mesh, 'data').addressable_devices_indices_map((batch_size,)).values()
  return np.unique(np.concatenate([np.arange(batch_size)[part] for part in parts]))


def memory_of_device() -> int:
  """Returns the bytes of memory of a device of this process; of the host, if the device has none of its own."""
  statistics = jax.local_devices()[0].memory_stats() or {}
  return statistics.get('bytes_limit') or os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')


def constrain_batch(x: jax.Array, mesh: Mesh) -> jax.Array:
  """Splits `x` along its first axis over 'data', inside a compiled program."""
  return lax.with_sharding_constraint(x, named_sharding(mesh, 'data'))


def put(tree, sharding: NamedSharding):
  """Places the arrays of `tree`, which every process has whole."""

  def put_array(x) -> jax.Array:
    if sharding.is_fully_addressable:
      return jax.device_put(x, sharding)
    x = np.asarray(jax.device_get(x))  # device_put would compare the values of all processes by a collective first
    with jax.transfer_guard('allow'):  # an explicit transfer, like device_put
      return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

  return jax.tree.map(put_array, tree)


# ---- programs ----


def compile_together(mesh: Mesh, *lowered) -> list:
  """Compiles the results of jax.jit(…).lower(…), each in its own thread: XLA releases Python's lock.

  If the devices of `mesh` belong to several processes, each process of the run must call it, and all return together.
  """
  with ThreadPoolExecutor() as pool:
    compiled = list(pool.map(lambda program: program.compile(), lowered))
  if mesh.is_multi_process:
    wait_for_all('compiled')
  return compiled


def map_members(function: Callable, strategy: str) -> Callable:
  """Turns (member, shared) → result into (members [M, …], shared) → results [M, …]; all are trees of arrays.

  The strategy 'map' computes the members of a device one after another, 'vmap' all at once. A single member is computed
  by a plain call.
  """
  if strategy not in STRATEGIES:
    raise ValueError(f'strategy {strategy!r}: expected one of {", ".join(STRATEGIES)}')

  def mapped(members, shared):
    def call(member):
      return function(member, shared)

    if len(jax.tree.leaves(members)[0]) == 1:
      return jax.tree.map(lambda x: x[None], call(jax.tree.map(lambda x: x[0], members)))
    return jax.vmap(call)(members) if strategy == 'vmap' else lax.map(call, members)

  return mapped


def shard_population(function: Callable, mesh: Mesh) -> Callable:
  """Splits the members of `function`, (members [M, …], shared) → results [M, …], over 'population'.

  Each device computes its own members; the axis 'data' stays automatic. This takes shard_map: if jit partitions vmapped
  convolutions over their members, the results are wrong.
  """
  split = PartitionSpec('population')
  return jax.shard_map(
    function,
    mesh=mesh,
    axis_names={'population'},
    in_specs=(split, PartitionSpec()),
    out_specs=split,
    check_vma=False,  # it rejects loops whose initial zeros are equal on every device
  )

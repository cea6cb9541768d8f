"""The processes of a run: joining a cluster, and what process 0 alone does."""

from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

from beta_darts_jax.errors import InputError

JOIN_SECONDS = 300


def join_cluster(cluster: str = 'auto', coordinator: str = '', processes: int = 0, process: int = 0) -> None:
  """Connects this process to the other processes of the run. Call it before JAX's first operation.

  JAX aborts the process if the coordinator does not answer for five minutes.

  Args:
    cluster: 'auto' joins the cluster that JAX detects (TPU pod, Slurm, …); 'none' detects none.
    coordinator: HOST:PORT of process 0, for a cluster that JAX does not detect; '' otherwise.
    processes: number of processes of that cluster.
    process: index of this process, 0 … processes − 1.

  Raises:
    InputError: the arguments do not describe a cluster, or JAX cannot join it.
  """
  _check_cluster(coordinator, processes, process)
  try:
    if coordinator:
      jax.distributed.initialize(coordinator, processes, process, initialization_timeout=JOIN_SECONDS)
    elif cluster == 'auto':
      jax.distributed.initialize(initialization_timeout=JOIN_SECONDS)
  except (ValueError, RuntimeError) as error:
    if not coordinator and 'coordinator_address should be defined' in str(error):
      return  # JAX detects no cluster
    raise InputError(f'cannot join the cluster of {coordinator or "the environment"}: {error}') from None


def _check_cluster(coordinator: str, processes: int, process: int) -> None:
  if not coordinator:
    if processes > 1 or process:
      raise InputError(f'processes={processes}, process={process}: expected a coordinator, HOST:PORT, too')
    return
  host, _, port = coordinator.rpartition(':')
  if not (host and port.isdecimal() and 0 < int(port) < 2**16):
    raise InputError(f'coordinator={coordinator!r}: expected HOST:PORT')
  if process >= processes:
    raise InputError(f'process={process}: expected less than the number of processes, {processes}')


def is_process_zero() -> bool:
  """Returns whether this is process 0, which alone prints and writes files."""
  return jax.process_index() == 0


def run_on_process_zero(function: Callable, *arguments):
  """Calls function(*arguments) in process 0 and returns its result there, None in the other processes, which wait.

  Raises:
    InputError, OSError: in process 0, as `function` raised it; in the others an InputError that refers to process 0.
  """
  if jax.process_count() == 1:
    return function(*arguments)
  result, failure = None, None
  if is_process_zero():
    try:
      result = function(*arguments)
    except (InputError, OSError) as error:
      failure = error
  if any_process(failure is not None):
    raise failure or InputError('process 0 reported an error')
  return result


def any_process(flag: bool) -> bool:
  """Returns whether `flag` is true in any process. Every process must call it."""
  return flag if jax.process_count() == 1 else bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))

"""The processes of a run: joining a cluster, and what process 0 alone does."""

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import NoReturn

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from beta_darts_jax.errors import InputError

JOIN_SECONDS = 300
BROKEN = 3  # exit status if another process of the run has ended
MANY_HOURS = 24 * 365  # how long the others wait for process 0; they end if it dies
HEARTBEAT_SECONDS = 40  # a process that is silent for so long is dead; then JAX ends the others
_SLURM = ('SLURM_JOB_ID', 'SLURM_STEP_NODELIST', 'SLURM_NTASKS', 'SLURM_PROCID', 'SLURM_LOCALID')  # JAX joins by these
_VISIBLE = ('CUDA_VISIBLE_DEVICES', 'ROCR_VISIBLE_DEVICES', 'HIP_VISIBLE_DEVICES')


def join_cluster(cluster: str = 'auto', coordinator: str = '', processes: int = 0, process: int = 0) -> None:
  """Connects this process to the other processes of the run. Call it before JAX's first operation.

  JAX aborts the process if the coordinator does not answer for five minutes. Before it waits, this function prints for
  how many processes it waits.

  Args:
    cluster: 'auto' joins the cluster that JAX detects (TPU pod, Slurm, …); 'none' detects none.
    coordinator: HOST:PORT of process 0, for a cluster that JAX does not detect; '' otherwise.
    processes: number of processes of that cluster.
    process: index of this process, 0 … processes − 1.

  Raises:
    InputError: the arguments do not describe a cluster, or JAX cannot join it.
  """
  check_cluster(coordinator, processes, process)
  if not coordinator and cluster == 'none':
    return
  if waited := announced_processes(os.environ, coordinator, processes):
    print(f'waiting for {waited}', file=sys.stderr, flush=True)
  jax.config.update('jax_enable_preemption_service', False)  # it would ignore SIGTERM outside the training loop
  try:
    jax.distributed.initialize(
      coordinator or None,
      processes if coordinator else None,
      process if coordinator else None,
      local_device_ids=local_device_ids(os.environ),
      initialization_timeout=JOIN_SECONDS,
      heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
    )
  except InputError:
    raise
  # JAX's clusters raise KeyError, ValueError and types of other packages if their variables are set in part
  except Exception as error:
    if not coordinator and 'coordinator_address should be defined' in str(error):
      return  # JAX detects no cluster
    where = coordinator or 'the environment'
    advice = '' if coordinator else '; set cluster=none to run alone'
    raise InputError(f'cannot join the cluster of {where} ({type(error).__name__}: {error}){advice}') from None


def announced_processes(environment: Mapping[str, str], coordinator: str, processes: int) -> str:
  """Returns a description of the processes that this one will wait for; '' if it is alone or if only JAX can tell."""
  if coordinator:
    return f'the {processes} processes of {coordinator}' if processes > 1 else ''
  counts = {
    'Slurm': environment['SLURM_NTASKS'] if all(name in environment for name in _SLURM) else '',
    'Open MPI': environment.get('OMPI_COMM_WORLD_SIZE', '') if 'OMPI_MCA_orte_hnp_uri' in environment else '',
    'the TPU slice': str(environment.get('TPU_WORKER_HOSTNAMES', '').count(',') + 1),
  }
  for name, count in counts.items():
    if count not in ('', '1'):
      return f'the {count} processes that {name} announces; set cluster=none to run alone'
  return ''


def local_device_ids(environment: Mapping[str, str]) -> list[int] | None:
  """Returns the indices of the accelerators that this task of a Slurm step uses, among those that it sees.

  [] means all of them. None leaves the choice to JAX.

  By itself JAX gives task k of a node the k-th accelerator. So one task per node would use one accelerator only, and a
  task that sees only its own accelerator would look for another one. Here one task per node uses all accelerators;
  tasks with accelerators of their own use these; tasks that see the same accelerators share them equally.

  Args:
    environment: variables, as os.environ.

  Raises:
    InputError: the tasks of a node cannot share its accelerators equally.
  """
  if 'JAX_LOCAL_DEVICE_IDS' in environment or not all(name in environment for name in _SLURM):
    return None
  tasks, task = _tasks_of_node(environment), int(environment['SLURM_LOCALID'])
  visible = [environment[name].count(',') + 1 for name in _VISIBLE if environment.get(name)]
  num_visible, num_on_node = min(visible, default=0), int(environment.get('SLURM_GPUS_ON_NODE', 0))
  sees_only_own = 0 < num_visible < (num_on_node or 2)
  has_own = not num_visible and 'SLURM_GPUS_PER_TASK' in environment
  if tasks == 1 or sees_only_own or has_own:
    return []
  shared = num_on_node or num_visible
  if not shared:  # no GPUs of Slurm
    return None
  if shared % tasks:
    raise InputError(f'{tasks} tasks on a node with {shared} accelerators: expected a divisor of {shared}')
  share = shared // tasks
  return list(range(task * share, (task + 1) * share))


def _tasks_of_node(environment) -> int:
  """Returns the number of tasks on this node; Slurm writes the tasks of all nodes like '4(x2),1'."""
  text = environment.get('SLURM_STEP_TASKS_PER_NODE') or environment.get('SLURM_TASKS_PER_NODE') or '1'
  parts = re.findall(r'(\d+)(?:\(x(\d+)\))?', text)
  counts = [int(tasks) for tasks, nodes in parts for _ in range(int(nodes or 1))]
  return counts[int(environment.get('SLURM_NODEID', 0))]


def check_cluster(coordinator: str = '', processes: int = 0, process: int = 0) -> None:
  """Raises InputError if the arguments, those of `join_cluster`, do not describe a cluster."""
  if not coordinator:
    if processes > 1 or process:
      raise InputError(f'processes={processes}, process={process}: expected a coordinator, HOST:PORT, too')
    return
  host, _, port = coordinator.rpartition(':')
  if not (host and port.isdecimal() and 0 < int(port) < 2**16):
    raise InputError(f'coordinator={coordinator!r}: expected HOST:PORT, with a port from 1 to {2**16 - 1}')
  if not processes:
    raise InputError(f'coordinator={coordinator!r}: expected processes, the number of processes, too')
  if process >= processes:
    raise InputError(f'process={process}: expected less than the number of processes, {processes}')


def is_process_zero() -> bool:
  """Returns whether this is process 0, which alone prints and writes files."""
  return jax.process_index() == 0


def run_on_process_zero(function: Callable, *arguments):
  """Calls function(*arguments) in process 0 and returns its result there, None in the other processes.

  They wait for as long as it takes, and end if process 0 dies.

  Raises:
    InputError, OSError: in process 0, as `function` raised it; in the others an InputError that refers to process 0.
  """
  result, failure = _call(function, arguments) if is_process_zero() else (None, None)
  wait_for_all('process 0', hours=MANY_HOURS)
  _raise_together(failure, 'process 0')
  return result


def run_on_all_processes(function: Callable, *arguments):
  """Calls function(*arguments) in every process and returns its result there.

  The processes wait for each other for up to an hour.

  Raises:
    InputError, OSError: as `function` raised it; an InputError if `function` raised one in other processes only.
  """
  result, failure = _call(function, arguments)
  wait_for_all('called')
  _raise_together(failure, 'another process')
  return result


def _call(function, arguments):
  """Returns (result, error); one of them is None."""
  try:
    return function(*arguments), None
  except (InputError, OSError) as error:
    return None, error


def _raise_together(failure, place) -> None:
  if any_process(failure is not None):
    raise failure or InputError(f'{place} reported an error')


def leave_broken_run(error: jax.errors.JaxRuntimeError) -> NoReturn:
  """Ends this process with one line and status BROKEN, if the run has others; else raises the error again.

  The computations of JAX fail in this way when another process has died. At the usual exit, JAX would wait for that
  process, and then abort. If this process waits for the dead one elsewhere, JAX aborts it: after HEARTBEAT_SECONDS, or
  at once if process 0 is dead.
  """
  if jax.process_count() == 1:
    raise error
  reason = ' '.join(str(error).split())[:200]
  print(f'error: another process has ended, or JAX failed ({reason}). Start the command again', file=sys.stderr)
  sys.stderr.flush()
  os._exit(BROKEN)


def wait_for_all(name: str, hours: int = 1) -> None:
  """Waits until every process of the run has called it with this name, for up to `hours`.

  It uses JAX's coordination service and not a collective, because a collective on CPUs fails if a process starts it
  30 seconds after the first one.
  """
  if jax.process_count() > 1:
    ocp.multihost.get_barrier_sync_fn()(key=name, timeout_ms=hours * 3_600_000)


def any_process(flag: bool) -> bool:
  """Returns whether `flag` is true in any process. Every process must call it."""
  return flag if jax.process_count() == 1 else bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


def processes_that_differ(value) -> list[int]:
  """Returns the processes whose `value`, a JSON tree, differs from that of process 0. Every process must call it."""
  if jax.process_count() == 1:
    return []
  digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()
  digests = multihost_utils.process_allgather(np.frombuffer(digest, np.uint8))
  return np.flatnonzero((digests != digests[0]).any(axis=1)).tolist()

"""How a process finds its cluster and its devices: tables over the variables that Slurm and others set."""

import os
import pathlib
import signal
import subprocess
import sys

import jax
import pytest
from conftest import COMPILED_FAST, free_port

from beta_darts_jax import InputError
from beta_darts_jax.runtime.devices import set_compilation_cache, set_up
from beta_darts_jax.runtime.processes import announced_processes, join_cluster, leave_broken_run, local_device_ids


def slurm(nodes, tasks, **more):
  """The variables of every task, in the order of the tasks, as Slurm sets them for `tasks` tasks on each node."""
  return [
    {
      'SLURM_JOB_ID': '7', 'SLURM_STEP_NODELIST': f'n[1-{nodes}]' if nodes > 1 else 'n1', 'SLURM_NODEID': str(node),
      'SLURM_NTASKS': str(nodes * tasks), 'SLURM_PROCID': str(node * tasks + task), 'SLURM_LOCALID': str(task),
      'SLURM_STEP_TASKS_PER_NODE': f'{tasks}(x{nodes})' if nodes > 1 else str(tasks), **more,
    }
    for node in range(nodes) for task in range(tasks)
  ]  # fmt: skip


FOUR = {'SLURM_GPUS_ON_NODE': '4', 'CUDA_VISIBLE_DEVICES': '0,1,2,3'}  # --gpus-per-node=4
OWN = {'SLURM_GPUS_ON_NODE': '4', 'CUDA_VISIBLE_DEVICES': '0', 'SLURM_GPUS_PER_TASK': '1'}  # --gpus-per-task=1
ALL = []  # every device that the task sees


@pytest.mark.parametrize(
  'nodes, tasks, more, devices',
  [
    (1, 4, FOUR, [[0], [1], [2], [3]]),
    (1, 4, OWN, [ALL] * 4),
    (1, 4, FOUR | {'SLURM_GPUS_PER_TASK': '1'}, [[0], [1], [2], [3]]),  # --gpu-bind=none
    (2, 1, FOUR, [ALL] * 2),
    (2, 4, FOUR, [[0], [1], [2], [3]] * 2),
    (2, 4, OWN, [ALL] * 8),
    (2, 2, FOUR, [[0, 1], [2, 3]] * 2),
    (1, 2, {'SLURM_GPUS_ON_NODE': '2', 'ROCR_VISIBLE_DEVICES': '1'}, [ALL] * 2),
    (1, 1, {}, [ALL]),
    (1, 2, {}, [None] * 2),  # no GPUs
    (1, 4, FOUR | {'JAX_LOCAL_DEVICE_IDS': '3'}, [None] * 4),
  ],
)
def test_the_tasks_of_a_node_use_all_its_devices(nodes, tasks, more, devices):
  assert [local_device_ids(environment) for environment in slurm(nodes, tasks, **more)] == devices


def test_devices_without_slurm_or_with_some_of_its_variables_are_left_to_jax():
  (environment,) = slurm(1, 1)
  del environment['SLURM_LOCALID']
  assert local_device_ids({}) is None and local_device_ids(environment) is None


def test_tasks_that_cannot_share_the_devices_equally_are_refused():
  with pytest.raises(InputError, match='3 tasks on a node with 4 accelerators: expected a divisor of 4'):
    local_device_ids(slurm(1, 3, **FOUR)[0])


@pytest.mark.parametrize(
  'environment, coordinator, processes, waited',
  [
    (slurm(2, 4)[0], '', 0, 'the 8 processes that Slurm announces'),
    (slurm(1, 1)[0], '', 0, ''),
    ({'SLURM_NTASKS': '2'}, '', 0, ''),  # JAX does not take it for a cluster
    ({'OMPI_MCA_orte_hnp_uri': '1.0;tcp://10.0.0.1:1', 'OMPI_COMM_WORLD_SIZE': '3'}, '', 0, 'the 3 processes'),
    ({'TPU_WORKER_HOSTNAMES': 'a,b'}, '', 0, 'the 2 processes that the TPU slice announces'),
    ({}, 'host:1', 4, 'the 4 processes of host:1'),
    ({}, '', 0, ''),
  ],
)
def test_a_process_knows_for_whom_it_waits(environment, coordinator, processes, waited):
  found = announced_processes(environment, coordinator, processes)
  assert found.startswith(waited) and bool(found) == bool(waited)


@pytest.mark.parametrize('error', [KeyError('OMPI_COMM_WORLD_SIZE'), Exception('Service token file does not exist')])
def test_whatever_the_detection_of_a_cluster_raises_becomes_one_line(error, monkeypatch):
  """The package of Kubernetes, for example, has types of its own."""

  def initialize(*_, **__):
    raise error

  monkeypatch.setattr(jax.distributed, 'initialize', initialize)
  with pytest.raises(InputError, match=f'cannot join the cluster of the environment .{type(error).__name__}: '):
    join_cluster()
  join_cluster(cluster='none')


def test_a_user_without_a_home_folder_is_told_what_to_set(monkeypatch):
  def home():
    raise RuntimeError('Could not determine home directory.')

  monkeypatch.setattr(pathlib.Path, 'home', home)
  for name in ('XDG_CACHE_HOME', 'JAX_COMPILATION_CACHE_DIR'):
    monkeypatch.delenv(name, raising=False)
  with pytest.raises(InputError, match='no home folder: expected HOME, or XDG_CACHE_HOME'):
    set_compilation_cache()
  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', '/tmp')
  set_compilation_cache()


@pytest.mark.parametrize(
  'settings, named',
  [
    (jax.numpy_dtype_promotion('strict'), 'JAX_NUMPY_DTYPE_PROMOTION=strict: expected standard'),
    (jax.numpy_rank_promotion('raise'), 'JAX_NUMPY_RANK_PROMOTION=raise: expected allow'),
  ],
)
def test_settings_of_jax_with_which_no_run_works_are_refused(settings, named):
  with settings, pytest.raises(InputError, match=named):
    set_up()


def test_an_error_of_jax_ends_a_run_of_several_processes_with_one_line(monkeypatch, capsys):
  error = jax.errors.JaxRuntimeError('UNKNOWN: Gloo AllGather failed:\nConnection closed by peer')
  with pytest.raises(jax.errors.JaxRuntimeError):  # a run of one process keeps its traceback
    leave_broken_run(error)
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  monkeypatch.setattr(os, '_exit', sys.exit)
  with pytest.raises(SystemExit) as end:
    leave_broken_run(error)
  printed = capsys.readouterr().err
  assert end.value.code == 3 and printed.count('\n') == 1 and 'Connection closed by peer' in printed


@pytest.mark.full
@pytest.mark.parametrize('nodes, tasks', [(1, 4), (2, 1), (2, 4)])
def test_tasks_of_slurm_join_with_all_their_virtual_devices(nodes, tasks):
  """Two virtual CPU devices a task; the last number is what JAX is told of the GPUs."""
  code = (
    'from beta_darts_jax.runtime.devices import set_up; set_up(cpu_devices=2); import jax;'
    'print("found", jax.process_index(), jax.process_count(), jax.local_device_count(), jax.device_count(),'
    'jax.config.read("jax_cuda_visible_devices"))'
  )
  port = str(free_port())
  running = [
    subprocess.Popen(
      [sys.executable, '-c', code],
      env=os.environ | COMPILED_FAST | environment | {'SLURM_STEP_NODELIST': 'localhost', 'JAX_COORDINATOR_PORT': port},
      stdout=subprocess.PIPE,
      text=True,
    )
    for environment in slurm(nodes, tasks, **FOUR)
  ]
  count = nodes * tasks
  for i, process in enumerate(running):
    lines = process.communicate(timeout=300)[0].splitlines()
    found = next(line for line in lines if line.startswith('found')).split()
    assert found[1:] == [str(i), str(count), '2', str(2 * count), 'all' if tasks == 1 else str(i % tasks)]


@pytest.mark.full
def test_sigterm_ends_a_process_that_has_joined_a_cluster():
  """Outside the training loop. JAX's preemption service would ignore the signal."""
  code = (
    'import os, signal, sys; from beta_darts_jax.runtime.processes import join_cluster;'
    "join_cluster('none', sys.argv[1], 1, 0); os.kill(os.getpid(), signal.SIGTERM)"
  )
  done = subprocess.run([sys.executable, '-c', code, f'localhost:{free_port()}'])
  assert done.returncode == -signal.SIGTERM


TWO_PROCESSES = """
import sys
from beta_darts_jax.errors import InputError
from beta_darts_jax.runtime.processes import join_cluster, processes_that_differ, run_on_all_processes

process = int(sys.argv[2])
join_cluster('none', sys.argv[1], 2, process)

def read(fails):
  if process == fails:
    raise InputError('no such file')
  return process

print('found', processes_that_differ({'a': 1}), processes_that_differ({'a': process}), run_on_all_processes(read, 2))
try:
  run_on_all_processes(read, 1)
except InputError as error:
  print('found', error)
"""


@pytest.mark.full
def test_processes_notice_that_one_has_other_data_or_none():
  address = f'localhost:{free_port()}'
  running = [
    subprocess.Popen([sys.executable, '-c', TWO_PROCESSES, address, str(i)], stdout=subprocess.PIPE, text=True)
    for i in range(2)
  ]
  found = [
    [line for line in process.communicate(timeout=100)[0].splitlines() if line.startswith('found')]
    for process in running
  ]
  assert found == [
    ['found [] [1] 0', 'found another process reported an error'],
    ['found [] [1] 1', 'found no such file'],
  ]

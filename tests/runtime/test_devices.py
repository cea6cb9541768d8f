"""A search takes the same trajectory on 1 and 8 devices, in 1 and 4 processes, alone and in a population."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from conftest import COMPILED_FAST, free_port
from spread import SPACE

from beta_darts_jax import InputError
from beta_darts_jax.runtime.devices import make_mesh, map_members, mesh_shape, set_cpu_options
from beta_darts_jax.runtime.processes import join_cluster

HERE = pathlib.Path(__file__).parents[1]
ENVIRONMENT = os.environ | COMPILED_FAST


def test_the_options_of_xla_are_added_once_and_a_given_one_wins(monkeypatch):
  monkeypatch.setenv('JAX_NUM_CPU_DEVICES', '1')  # this process may have its devices already
  monkeypatch.setenv('XLA_FLAGS', '--xla_cpu_prefer_vector_width=256')
  for _ in range(2):
    set_cpu_options()
    given, eigen = os.environ['XLA_FLAGS'].split()
    assert given == '--xla_cpu_prefer_vector_width=256'
    assert eigen.startswith('--xla_cpu_experimental_ynn_fusion_type=')
  monkeypatch.delenv('XLA_FLAGS')
  set_cpu_options()
  assert os.environ['XLA_FLAGS'].split() == [eigen, '--xla_cpu_prefer_vector_width=512']


def start(*command):
  return subprocess.Popen(
    [sys.executable, *map(str, command)],
    cwd=HERE.parent,
    env=ENVIRONMENT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def finish(process):
  out, err = process.communicate(timeout=900)
  return process.returncode, out, err


def spread(out, cases, processes=0):
  """Runs tests/spread.py in `processes` processes, or in one. They have eight devices together: {name: arrays}."""
  command, port = [HERE / 'spread.py', out, json.dumps(cases)], free_port()
  running = [start(*command, *cluster) for cluster in [(processes, i, port) for i in range(processes)] or [()]]
  for code, _, err in map(finish, running):
    assert code == 0, err
  with np.load(out) as file:
    return {case['name']: [file[f'{case["name"]}/{i}'] for i in range(3)] for case in cases}


def case(name, population=1, data=1, members=(1,), steps=20, dtype='float64', **more):
  return dict(name=name, population=population, data=data, members=members, steps=steps, dtype=dtype, **more)


def distance(a, b):
  """Returns the largest difference of α, losses and weights."""
  return np.max([np.abs(x - y).max() for x, y in zip(a, b, strict=True)])  # NaN if there is one


POPULATION = [0, 1, 2, 3]
SIXTEEN = [  # the members on eight devices
  case('sixteen', population=8, members=[*range(16)], steps=3),
  case('sixteen, one diverges', population=8, members=[*range(16)], steps=3, diverging=[5]),
]


@pytest.fixture(scope='module')
def one_process(tmp_path_factory):
  cases = [case(f'single {seed}', members=[seed]) for seed in POPULATION]
  cases.append(case('eight', data=8))
  for name, devices in (('one', 1), ('eight', 8)):
    cases += [case(f'{name}, float32, {steps}', data=devices, steps=steps, dtype='float32') for steps in (3, 20)]
  cases.append(case('one ulp', dtype='float32', ulp=True))
  cases += [case(s, population=2, data=2, members=POPULATION, strategy=s, unroll=s == 'map') for s in ('map', 'vmap')]
  cases += SIXTEEN
  return spread(tmp_path_factory.mktemp('spread') / 'out.npz', cases)


@pytest.mark.parametrize(
  'arguments, message',
  [
    ({'coordinator': 'localhost'}, "coordinator='localhost': expected HOST:PORT"),
    ({'coordinator': 'localhost:x'}, "coordinator='localhost:x': expected HOST:PORT"),
    ({'coordinator': 'localhost:65536', 'processes': 2}, 'expected HOST:PORT, with a port from 1 to 65535'),
    ({'coordinator': 'localhost:1', 'process': 1}, 'expected processes, the number of processes, too'),
    ({'coordinator': 'localhost:1', 'processes': 2, 'process': 2}, 'process=2: expected less than'),
    ({'processes': 2}, 'processes=2, process=0: expected a coordinator'),
  ],
)
def test_join_cluster_refuses_what_describes_no_cluster(arguments, message):
  with pytest.raises(InputError, match=message):
    join_cluster(**arguments)


def test_compiled_programs_are_kept_in_the_cache_of_the_user(tmp_path):
  code = (
    "from beta_darts_jax.runtime.devices import set_up; set_up(cluster='none');"
    'import jax; jax.jit(lambda x: x + 1)(1.0)'
  )
  environment = {name: value for name, value in os.environ.items() if name != 'JAX_COMPILATION_CACHE_DIR'}
  environment |= {'XDG_CACHE_HOME': str(tmp_path), 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}
  subprocess.run([sys.executable, '-c', code], env=environment, check=True)
  assert list((tmp_path / 'beta_darts_jax' / 'xla').iterdir())


@pytest.mark.full
def test_devices_that_share_a_batch_take_the_trajectory_of_one_device(one_process):
  """20 steps in float64."""
  assert distance(one_process['eight'], one_process['single 1']) < 1e-9


@pytest.mark.full
def test_devices_that_share_a_batch_take_the_trajectory_of_one_device_in_float32(one_process):
  """3 steps agree to 1e-6. Over 20 steps the distance stays below 30 times the effect of one ulp in one kernel."""
  assert distance(one_process['eight, float32, 3'], one_process['one, float32, 3']) < 1e-6
  one, eight = one_process['one, float32, 20'], one_process['eight, float32, 20']
  assert distance(eight[::2], one[::2]) < 30 * distance(one_process['one ulp'][::2], one[::2]) < 1e-4
  assert SPACE.derive({'cell': eight[0][0]}) == SPACE.derive({'cell': one[0][0]})


@pytest.mark.full
@pytest.mark.parametrize('strategy', ['map', 'vmap'])
def test_a_member_takes_the_trajectory_of_a_single_run(one_process, strategy):
  """20 steps in float64, on a mesh that splits members and batches; the map case has the unrolled supernet."""
  for i, seed in enumerate(POPULATION):
    member = [array[i] for array in one_process[strategy]]
    assert distance(member, [array[0] for array in one_process[f'single {seed}']]) < 1e-9
  alphas = one_process[strategy][0]
  assert np.abs(alphas[0] - alphas[1]).max() > 1e-3  # the members differ


@pytest.fixture(scope='module')
def four_processes(tmp_path_factory):
  """Each has two devices."""
  cases = [case('shared', population=2, data=4, members=[0, 1]), SIXTEEN[1]]
  return spread(tmp_path_factory.mktemp('spread') / 'out.npz', cases, processes=4)


@pytest.mark.full
def test_four_processes_take_the_trajectory_of_one_process(one_process, four_processes):
  """Two processes share each member, and each of them has half of a batch."""
  for i, seed in enumerate((0, 1)):
    member, single = four_processes['shared'], one_process[f'single {seed}']
    assert distance([array[i] for array in member], [array[0] for array in single]) < 1e-9


@pytest.mark.full
def test_a_member_that_diverges_changes_no_other_member(one_process, four_processes):
  """16 members on 1 and on 4 processes, in float64: the same bits with and without the member that diverges."""
  one, four = (results['sixteen, one diverges'] for results in (one_process, four_processes))
  for whole, diverged, spread_out in zip(one_process['sixteen'], one, four, strict=True):
    np.testing.assert_array_equal(diverged, spread_out)
    is_finite = np.isfinite(diverged.reshape(16, -1)).all(axis=1)
    assert np.flatnonzero(~is_finite).tolist() == [5] and np.isfinite(whole).all()
    np.testing.assert_array_equal(diverged[is_finite], whole[is_finite])


@pytest.mark.full
def test_a_stopped_run_of_two_processes_resumes_in_one_process_of_four_devices(tmp_path):
  """Both processes write the checkpoint; process 0 alone prints and writes the logs."""
  arguments = [
    '-m', 'beta_darts_jax.main', '--config=configs/digits.py', '--config.supernet.channels=2',
    '--config.search.epochs=3', '--config.search.steps_per_dispatch=1', '--config.checkpoint.every_steps=5',
    '--config.search.learning_rate=0.002',
    '--config.retrain.epochs=0', '--config.space.nodes=2', "--config.space.operations=('skip_connect', 'nor_conv_3x3')",
  ]  # fmt: skip

  def both(workdir, *more):
    cluster = [f'--config.parallel.coordinator=localhost:{free_port()}', '--config.parallel.processes=2']
    return [
      start(*arguments, f'--workdir={workdir}', *cluster, f'--config.parallel.process={i}', *more) for i in (0, 1)
    ]

  run = tmp_path / 'run'
  processes = both(run)
  while not (run / 'checkpoints' / '25').exists():  # in the middle of the second epoch
    assert processes[0].poll() is None, finish(processes[0])
    time.sleep(0.01)
  processes[1].send_signal(signal.SIGTERM)
  (code, out, err), (other_code, other_out, other_err) = map(finish, processes)
  assert (code, other_code) == (0, 0), err + other_err
  assert 'Stopped. The same command resumes the run.' in out and not [
    line for line in other_out.splitlines() if 'Gloo' not in line
  ]

  results = [finish(process) for process in both(run, '--config.search.seed=5')]
  assert [code for code, _, _ in results] == [2, 2]
  errors = [line for _, _, err in results for line in err.splitlines() if 'error:' in line]
  assert 'belongs to a run with different settings (search.seed: 0, yours: 5)' in errors[0]
  assert errors[1:] == ['error: process 0 reported an error']

  code, out, err = finish(start(*arguments, f'--workdir={run}', '--config.parallel.cpu_devices=4'))
  assert code == 0 and 'processes: 2 → 1' in out and 'resuming from step' in out, err
  code, _, err = finish(start(*arguments, f'--workdir={tmp_path}/whole'))
  assert code == 0, err
  rows, whole = (
    [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    for folder in (run, tmp_path / 'whole')
  )
  assert [row['epoch'] for row in rows] == [0, 1, 2] and json.loads((run / 'result.json').read_text())['genotype']
  # With this learning rate one step changes the loss by 4e-4 of it, and float32 rounding by 2e-6 in two epochs.
  for row, other in zip(rows[:2], whole[:2], strict=True):
    assert row['genotype'] == other['genotype']
    for name in ('train_loss', 'valid_loss', 'beta_decay'):
      np.testing.assert_allclose(row[name], other[name], rtol=1e-4)


@pytest.mark.full
def test_process_zero_trains_the_found_cell_while_the_other_process_waits(tmp_path):
  arguments = [
    '-m', 'beta_darts_jax.main', '--config=configs/digits.py', f'--workdir={tmp_path}/run',
    '--config.supernet.channels=2', '--config.search.epochs=1', '--config.space.nodes=2',
    '--config.retrain.epochs=1', '--config.retrain.random_cells=0', '--config.retrain.channels=2',
    f'--config.parallel.coordinator=localhost:{free_port()}', '--config.parallel.processes=2',
  ]  # fmt: skip
  processes = [start(*arguments, f'--config.parallel.process={i}') for i in (0, 1)]
  (code, _, err), (other_code, _, other_err) = map(finish, processes)
  assert (code, other_code) == (0, 0), err + other_err
  trained = json.loads((tmp_path / 'run' / 'result.json').read_text())['retrain']
  assert 0 < trained['found']['test_accuracy'] <= 1 and trained['random'] == []


@pytest.mark.parametrize(
  'arguments, shape',
  [
    ((1, 64), (1, 1)),
    ((4, 64), (1, 4)),
    ((16, 64), (1, 8)),  # at least eight images a device
    ((16, 64, 1, 0, 16), (1, 16)),
    ((8, 64, 4), (4, 2)),
    ((8, 64, 6), (2, 4)),  # using all devices comes before splitting the population
    ((4, 64, 8, 2), (2, 2)),
    ((3, 64, 4), (2, 1)),
  ],
)
def test_mesh_shape_uses_most_devices(arguments, shape):
  assert mesh_shape(*arguments) == shape


@pytest.mark.parametrize('arguments', [(2, 64, 1, 0, 4), (8, 64, 1, 0, 3), (8, 64, 4, 3), (4, 64, 4, 4, 2)])
def test_mesh_shape_refuses_what_does_not_fit(arguments):
  with pytest.raises(InputError, match='expected divisors of the batch size, 64'):
    mesh_shape(*arguments)


@pytest.mark.parametrize(
  'batch_size, members, remedy',
  [
    (8, 1, '1 member use 1 of 8 devices: .*; set parallel.data=8$'),
    (16, 6, '6 members use 6 of 8 devices: .*; set parallel.data=4 and parallel.population=2$'),
    (6, 1, '1 member use 1 of 8 devices: .*; change the batch size or the number of devices'),
  ],
)
def test_a_run_of_several_processes_says_how_to_use_all_devices(batch_size, members, remedy, monkeypatch):
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  monkeypatch.setattr(jax, 'devices', lambda: [None] * 8)
  with pytest.raises(InputError, match=f'batch size {batch_size} and {remedy}'):
    make_mesh(batch_size, members)


@pytest.mark.parametrize('members', [1, 3])
@pytest.mark.parametrize('strategy', ['map', 'vmap'])
def test_members_are_computed_one_by_one_or_all_at_once(strategy, members):
  stack = {'x': np.arange(2.0 * members).reshape(members, 2)}

  def scaled_sum(member, shared):
    return jax.numpy.sum(member['x']) * shared

  y = map_members(scaled_sum, strategy)(stack, 10.0)
  np.testing.assert_allclose(y, 10 * stack['x'].sum(1))

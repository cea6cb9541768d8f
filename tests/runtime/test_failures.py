"""Processes that share four virtual devices stream a search: one of them is killed, or their number changes."""

import json
import os
import pathlib
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from conftest import COMPILED_FAST, free_port
from PIL import Image

from beta_darts_jax.runtime.checkpoint import load_arrays

ROOT = pathlib.Path(__file__).parents[2]
ARGUMENTS = [
  '-m', 'beta_darts_jax.main', '--config=configs/digits.py', '--config.supernet.channels=2', '--config.space.nodes=2',
  '--config.supernet.unroll=False',
  "--config.space.operations=('skip_connect', 'nor_conv_3x3')", '--config.search.batch_size=8',
  '--config.search.epochs=2', '--config.search.steps_per_dispatch=1', '--config.checkpoint.every_steps=2',
  '--config.retrain.epochs=0', '--config.data.residence=stream', '--config.data.workers=1', '--config.parallel.data=4',
]  # fmt: skip


@pytest.fixture(scope='module')
def start(tmp_path_factory):
  """A function that starts the processes of a search on 80 pictures, and returns them."""
  path, cache = tmp_path_factory.mktemp('pictures'), tmp_path_factory.mktemp('cache')
  rng = np.random.default_rng(0)
  for k in range(80):
    (path / f'class{k % 2}').mkdir(exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path / f'class{k % 2}' / f'{k}.png')
  environment = os.environ | COMPILED_FAST | {'JAX_COMPILATION_CACHE_DIR': str(cache)}
  environment['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'

  def start_search(folder, processes=2):
    arguments = [f'--config.data.source=folder:{path}', f'--workdir={folder}']
    arguments.append(f'--config.parallel.cpu_devices={4 // processes}')
    if processes > 1:
      arguments += [
        f'--config.parallel.coordinator=localhost:{free_port()}',
        f'--config.parallel.processes={processes}',
      ]
    outputs = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'text': True}
    return [
      subprocess.Popen(
        [sys.executable, *ARGUMENTS, *arguments, f'--config.parallel.process={i}'],
        cwd=ROOT,
        env=environment,
        **outputs,
      )
      for i in range(processes)
    ]

  return start_search


def finish(processes):
  return [(process.returncode, *outputs) for process in processes for outputs in [process.communicate(timeout=300)]]


def outcome(folder):
  state = load_arrays(folder)
  rows = map(json.loads, (folder / 'metrics.jsonl').read_text().splitlines())
  return state, [{**row, 'seconds': 0, 'images_per_second': 0} for row in rows]


@pytest.mark.full
def test_a_run_of_two_processes_survives_the_death_of_one(start, tmp_path):
  """The other one ends within a minute, with one line or aborted by JAX. Started again, they end with the same bits."""
  run = tmp_path / 'run'
  processes = start(run)
  while not (run / 'checkpoints' / '4').exists():  # the end of the first of two epochs
    assert all(process.poll() is None for process in processes), finish(processes)
    time.sleep(0.01)
  processes[1].kill()
  killed = time.monotonic()
  (code, _, err), _ = finish(processes)
  assert code in (3, -6) and time.monotonic() - killed < 60, err
  assert code == -6 or sum(line.startswith('error: ') for line in err.splitlines()) == 1, err
  assert not (run / 'result.json').exists()
  for folder in (run, tmp_path / 'whole'):
    assert [code for code, _, _ in finish(start(folder))] == [0, 0]
  (state, rows), (whole_state, whole_rows) = outcome(run), outcome(tmp_path / 'whole')
  assert rows == whole_rows
  jax.tree.map(np.testing.assert_array_equal, state, whole_state)


@pytest.mark.full
def test_four_processes_and_one_stream_the_same_search(start, tmp_path):
  """After 8 steps α differs by rounding (float32). Other batches would change it by the learning rate, 3e-4."""
  for processes in (1, 4):
    ended = finish(start(tmp_path / str(processes), processes))
    assert [code for code, _, _ in ended] == [0] * processes, ended
  (one, rows_of_one), (four, rows_of_four) = (outcome(tmp_path / name) for name in '14')
  assert [row['genotype'] for row in rows_of_one] == [row['genotype'] for row in rows_of_four]
  np.testing.assert_allclose(one['alphas']['cell'], four['alphas']['cell'], rtol=0, atol=1e-6)

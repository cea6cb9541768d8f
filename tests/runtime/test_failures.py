"""Two processes, each with two virtual devices, stream a search; one of them is killed."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from conftest import COMPILED_FAST
from PIL import Image
from test_processes import free_port

from beta_darts_jax.runtime.checkpoint import Checkpoints

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
  """A function that starts two processes, which search on 80 pictures, and returns them."""
  path, cache = tmp_path_factory.mktemp('pictures'), tmp_path_factory.mktemp('cache')
  rng = np.random.default_rng(0)
  for k in range(80):
    (path / f'class{k % 2}').mkdir(exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path / f'class{k % 2}' / f'{k}.png')
  environment = os.environ | COMPILED_FAST | {'JAX_COMPILATION_CACHE_DIR': str(cache)}
  environment['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'

  def start_search(folder):
    arguments = [f'--config.data.source=folder:{path}', '--config.parallel.cpu_devices=2', f'--workdir={folder}']
    arguments += [f'--config.parallel.coordinator=localhost:{free_port()}', '--config.parallel.processes=2']
    return [
      subprocess.Popen(
        [sys.executable, *ARGUMENTS, *arguments, f'--config.parallel.process={i}'],
        **{'cwd': ROOT, 'env': environment, 'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'text': True},
      )
      for i in (0, 1)
    ]

  return start_search


def finish(processes):
  return [(process.returncode, *outputs) for process in processes for outputs in [process.communicate(timeout=300)]]


def outcome(folder):
  with contextlib.closing(Checkpoints(folder)) as checkpoints:
    state = checkpoints.restore_arrays()
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

"""Tests what a run of several processes survives: one of them is killed at a random moment.

  python benchmarks/process_faults.py [--processes 2] [--kills 10] [--seed 0]   # minutes for each kill on two cores

Each process has two virtual CPU devices, and streams the pictures of a small search with a checkpoint every two steps.
A kill hits a random process after a random time. Then the script waits for the other processes, starts the same command
again and compares the bits with those of a run without a fault. At last a killed run is continued by one process, and
finished by all of them. It prints the rows of docs/faults.md.
"""

import argparse
import atexit
import os
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
from faults import ROOT, equal, read_outcome
from PIL import Image

BATCH = 16  # images
COMMAND = [
  *(sys.executable, '-m', 'beta_darts_jax.main', '--config=configs/digits.py', '--config.supernet.channels=2'),
  '--config.supernet.unroll=False',
  *('--config.space.nodes=2', "--config.space.operations=('skip_connect', 'nor_conv_3x3')", '--config.search.epochs=3'),
  *('--config.search.steps_per_dispatch=1', '--config.retrain.epochs=0', '--config.checkpoint.every_steps=2'),
  *(f'--config.search.batch_size={BATCH}', '--config.data.residence=stream', '--config.data.workers=1'),
]


def free_port() -> int:
  with socket.socket() as opened:
    opened.bind(('localhost', 0))
    return opened.getsockname()[1]


def start(folder, run, processes, devices):
  """Starts the processes of the run `run`, with `devices` devices in all."""
  shared = [*COMMAND, f'--config.data.source=folder:{folder}/pictures', f'--workdir={folder}/{run}']
  shared += [f'--config.parallel.data={devices}', f'--config.parallel.cpu_devices={devices // processes}']
  if processes > 1:
    shared += [f'--config.parallel.coordinator=localhost:{free_port()}', f'--config.parallel.processes={processes}']
  outputs = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.PIPE, 'text': True}
  started = [
    subprocess.Popen([*shared, *([f'--config.parallel.process={i}'] if processes > 1 else [])], cwd=ROOT, **outputs)
    for i in range(processes)
  ]
  for process in started:
    atexit.register(process.kill)  # if an assertion fails; nothing happens to a process that has ended
  return started


def finish(processes) -> list[int]:
  """Waits for the processes and returns their exit statuses."""
  for process in processes:
    process.communicate(timeout=1200)
  return [process.returncode for process in processes]


def succeeds(folder, run, processes, devices) -> bool:
  return not any(finish(start(folder, run, processes, devices)))


def kill_one(folder, run, processes, moment, victim):
  """Kills process `victim` after `moment` seconds.

  Returns the exit statuses of the others, and the seconds until the last of them ended.
  """
  started = start(folder, run, processes, 2 * processes)
  time.sleep(moment)
  started[victim].kill()
  killed = time.perf_counter()
  statuses = finish([process for i, process in enumerate(started) if i != victim])
  return statuses, time.perf_counter() - killed


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--processes', type=int, default=2)
  parser.add_argument('--kills', type=int, default=10, help='number of kills at random moments')
  parser.add_argument('--seed', type=int, default=0, help='of the moments and of the killed process')
  options = parser.parse_args()
  rng, processes = random.Random(options.seed), options.processes
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
  with tempfile.TemporaryDirectory() as path:
    folder = pathlib.Path(path)
    os.environ['JAX_COMPILATION_CACHE_DIR'] = str(folder / 'cache')
    make_pictures(folder / 'pictures')
    assert succeeds(folder, 'first', processes, 2 * processes)  # fills the compilation cache
    began = time.perf_counter()
    assert succeeds(folder, 'whole', processes, 2 * processes)
    seconds, whole = time.perf_counter() - began, read_outcome(folder / 'whole')
    print(f'a run without a fault takes {seconds:.0f} s\n')
    print('| processes | killed | the others ended after | then the same command |\n|---|---|---|---|', flush=True)
    for k in range(options.kills):
      moment, victim = rng.uniform(0, seconds), rng.randrange(processes)
      run = folder / f'run{k}'
      statuses, waited = kill_one(folder, run.name, processes, moment, victim)
      fault = f'| {processes} | process {victim} after {moment:.0f} s'
      if (run / 'result.json').exists():
        print(f'{fault}, too late | | |', flush=True)
        continue
      then = describe_end(succeeds(folder, run.name, processes, 2 * processes), run, whole)
      print(f'{fault} | {waited:.1f} s, with status {", ".join(map(str, statuses))} | {then} |', flush=True)
    print(f'\n{processes} → 1 → {processes} processes: {move(folder, processes, whole)}')


def move(folder, processes, whole) -> str:
  """Stops a run of `processes` processes by a kill, continues it in one process, and finishes it in all of them."""
  run, devices = folder / 'moved', 2 * processes
  started = start(folder, run.name, processes, devices)
  wait_for_checkpoint(run, 2, started)
  started[0].kill()
  finish(started)
  alone = start(folder, run.name, 1, devices)
  wait_for_checkpoint(run, 6, alone)
  alone[0].terminate()
  finish(alone)
  assert not (run / 'result.json').exists(), 'the run ended before it came back'
  return describe_end(succeeds(folder, run.name, processes, devices), run, whole)


def wait_for_checkpoint(run, step, processes) -> None:
  while not (run / 'checkpoints' / str(step)).exists():
    assert all(process.poll() is None for process in processes), finish(processes)
    time.sleep(0.01)


def describe_end(has_succeeded, run, whole) -> str:
  if not has_succeeded:
    return 'FAILED'
  outcome = read_outcome(run)
  if equal(outcome, whole):
    return 'ended with the same bits'
  alphas, weights = (largest_difference(outcome.state[key], whole.state[key]) for key in ('alphas', 'params'))
  return f'ended with other bits: α differs by at most {alphas:.0e}, weights by at most {weights:.0e}'


def largest_difference(one, other) -> float:
  """Returns the largest absolute difference of two trees of arrays."""
  leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
  return max(float(np.abs(a - b).max()) for a, b in leaves)


def make_pictures(folder):
  rng = np.random.default_rng(0)
  for k in range(120):
    (folder / f'class{k % 3}').mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / f'class{k % 3}' / f'{k}.png')


if __name__ == '__main__':
  main()

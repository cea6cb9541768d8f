"""What a GPU (or whatever device there is) does with the search: the tables of README.md in under ten minutes.

  python benchmarks/accelerator.py [--small] [--only steps,chunks,population,torch,search] [--depth 5]

Measures the bilevel step of NAS-Bench-201 (C=16, N=5, batch 64) in float32, TF32 and bfloat16, scanned and unrolled;
chunks of 1, 20 and 100 steps a dispatch; populations of 1 and of --members by each strategy; PyTorch's twin on the same
card where torch is installed; and a whole search of 100 epochs of made-up images. Compilation and peak memory beside
each. --small does all of it with a tiny network, to see that it works.
"""

import argparse
import functools
import importlib.util
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import jax
import numpy as np

from beta_darts_jax.config import default
from beta_darts_jax.config.check import check
from beta_darts_jax.data import Dataset
from beta_darts_jax.runtime import devices as parallel
from beta_darts_jax.runtime.workdir import Workdir
from beta_darts_jax.search import run as search
from beta_darts_jax.search.programs import build, mesh_of

HERE = pathlib.Path(__file__).parent
PARTS = ('steps', 'chunks', 'population', 'torch', 'search')


def made_up(images):
  rng = np.random.default_rng(0)
  half = lambda n: (rng.integers(0, 256, (n, 32, 32, 3), np.uint8), rng.integers(0, 10, n).astype(np.int32))
  return Dataset('made up', half(images), half(1000), 10, (0.5,) * 3, (0.25,) * 3, in_order=True)


def settings(depth, small, **population):
  config = default()
  config.supernet.cells_per_stage = depth
  if small:
    config.space.nodes, config.space.operations = 2, ('skip_connect', 'nor_conv_3x3')
    config.supernet.channels, config.supernet.cells_per_stage, config.search.batch_size = 2, 1, 8
  config.search.evaluation_images = 1000
  for name, value in population.items():
    config.population[name] = value
  return check(config)


def row(*cells):
  print('| ' + ' | '.join(f'{cell:.3g}' if isinstance(cell, float) else str(cell) for cell in cells) + ' |', flush=True)


def heading(title, *names):
  print(f'\n{title}\n')
  row(*names)
  row(*['---'] * len(names))


def measure(config, dataset, chunk, rounds=3):
  """(seconds a step [rounds], compile seconds) of the program of a run."""
  programs = build(config, dataset, mesh_of(config))
  states, until, seconds = programs.states, 0, []
  for _ in range(rounds + 1):
    begun, until = time.perf_counter(), until + chunk
    states = jax.block_until_ready(programs.train(states, 0, until))
    seconds.append((time.perf_counter() - begun) / chunk)
  all_taken(states, until)
  return seconds[1:], programs.compile_seconds


def all_taken(states, steps):
  """A lone search whose loss is not finite ends early."""
  if (taken := int(states.step[0])) != steps:
    sys.exit(f'error: the search ended after {taken} of {steps} steps')


def peak_mib():
  """Peak memory of the device since the process began, where it tells."""
  stats = jax.local_devices()[0].memory_stats() or {}
  return round(stats['peak_bytes_in_use'] / 2**20) if 'peak_bytes_in_use' in stats else '-'


def spread(values):
  return f'{statistics.median(values):.4g} ({min(values):.4g} … {max(values):.4g})'


def measure_steps(config_of, small, dataset, chunk):
  heading('Precision and form', 'form', 's a step', 'images/s', 'compile, s', 'peak so far, MiB')
  for unroll in (False,) if small else (True, False):
    for name, dtype, precision in (
      ('float32', 'float32', 'float32'), ('TF32', 'float32', 'tensorfloat32'), ('bfloat16', 'bfloat16', 'default')
    ):  # fmt: skip
      config = config_of()
      with config.unlocked():
        config.supernet.dtype, config.supernet.unroll = dtype, unroll
      with jax.default_matmul_precision(precision):
        seconds, compiled = measure(config, dataset, chunk)
      images = 2 * config.search.batch_size / statistics.median(seconds)
      row(f'{name}, {"unrolled" if unroll else "scanned"}', spread(seconds), round(images), compiled, peak_mib())


def measure_chunks(config_of, dataset, chunk):
  heading('Steps a dispatch', 'steps', 's a step')
  config = config_of()
  programs = build(config, dataset, mesh_of(config))
  states, until = programs.states, 0
  for size in sorted({1, chunk, 5 * chunk}):
    seconds = []
    for _ in range(4):
      begun, until = time.perf_counter(), until + size
      states = jax.block_until_ready(programs.train(states, 0, until))
      seconds.append((time.perf_counter() - begun) / size)
    all_taken(states, until)
    row(size, spread(seconds[1:]))


def measure_population(config_of, sizes, dataset, chunk):
  heading('Populations', 'members', 'strategy', 's a step of all', 'against that many lone runs', 'compile, s')
  lone = None
  for members in (1, *sizes):
    for strategy in parallel.STRATEGIES if members > 1 else ('map',):
      config = config_of(seeds=members)
      with config.unlocked():
        config.parallel.strategy = strategy
      seconds, compiled = measure(config, dataset, chunk)
      lone = lone or statistics.median(seconds)
      row(members, strategy, spread(seconds), f'{members * lone / statistics.median(seconds):.2f} ×', compiled)


def measure_torch(small, chunk):
  if importlib.util.find_spec('torch') is None:
    return print('\nPyTorch is not installed: its twin is left out')
  heading("PyTorch's twin", 'form', 's a step', 'first step, s')
  sizes = ['--depth=1', '--channels=2', '--batch-size=8'] if small else []
  for form in ('nchw', 'tuned'):
    command = [sys.executable, str(HERE / 'torch_baseline.py'), form, f'--steps={chunk}', *sizes]
    done = subprocess.run(command, input='\n' * 4, capture_output=True, text=True, check=True)
    about, *seconds = map(json.loads, done.stdout.splitlines())
    row(f'{form}, {about["device"]}', spread(seconds[1:]), about['first'])


def measure_search(config_of, small, dataset):
  config = config_of()
  with config.unlocked():
    config.search.epochs = 2 if small else 100
    config.search.steps_per_dispatch = 100
  begun = time.perf_counter()
  with tempfile.TemporaryDirectory() as folder, Workdir(folder, config.to_dict()) as workdir:
    stop = threading.Event()
    outcome = search.run(config, dataset, None, workdir, stop)
    search.summarize(config, dataset, None, workdir, outcome, stop)
  heading('A whole search', 'epochs', 'steps an epoch', 'seconds', 'of which compiling')
  seconds = time.perf_counter() - begun
  row(config.search.epochs, outcome.programs.steps_per_epoch, seconds, outcome.programs.compile_seconds)


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--small', action='store_true')
  parser.add_argument('--only', default=','.join(PARTS))
  parser.add_argument('--depth', type=int, default=5, help='cells a stage')
  parser.add_argument('--members', type=lambda text: [int(n) for n in text.split(',')], default=[2, 4, 8])
  options = parser.parse_args()
  parts = options.only.split(',')
  if unknown := set(parts) - set(PARTS):
    parser.error(f'--only={options.only}: {", ".join(sorted(unknown))} unknown, allowed are {", ".join(PARTS)}')
  parallel.set_up(cluster='none')
  device = jax.devices()[0]
  print(f'{device.device_kind} ({device.platform}), jax {jax.__version__}')
  small = options.small
  dataset, chunk = made_up(64 if small else 50_000), 2 if small else 20
  config_of = functools.partial(settings, options.depth, small)
  if 'steps' in parts:
    measure_steps(config_of, small, dataset, chunk)
  if 'chunks' in parts:
    measure_chunks(config_of, dataset, chunk)
  if 'population' in parts:
    measure_population(config_of, [2] if small else options.members, dataset, chunk)
  if 'torch' in parts:
    measure_torch(small, chunk)
  if 'search' in parts:
    measure_search(config_of, small, dataset)


if __name__ == '__main__':
  main()

"""Measures the search on a GPU or another device, and prints tables for README.md.

  python benchmarks/accelerator.py [--small] [--only steps,chunks,population,torch,search] [--depth 5]

steps: the bilevel step of NAS-Bench-201 (C=16, N=5, batch 64) in float32, TF32 and bfloat16, and scanned in float32
chunks: 1, 20 and 100 steps a dispatch
population: one member, and each number of --members by each strategy
torch: the same step in PyTorch on the same device, if torch is installed
search: the first --epochs of a search of 100 epochs on random images, and the seconds of all 100 computed from them

It compiles nine programs and PyTorch's two, which takes most of its time. It prints each row when it has it, so nothing
is lost if you stop it after ten minutes. The tables have compile times and peak memory, too. --small runs everything
with a tiny network, to see that it works.
"""

import argparse
import contextlib
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from statistics import median

import jax
import numpy as np
from timing import spread

from beta_darts_jax.config import default
from beta_darts_jax.config.check import check
from beta_darts_jax.data import Dataset
from beta_darts_jax.runtime.devices import STRATEGIES, set_up
from beta_darts_jax.runtime.workdir import Workdir
from beta_darts_jax.search import run as search_run
from beta_darts_jax.search.programs import SearchPrograms
from beta_darts_jax.search.setup import make_search_setup

HERE = pathlib.Path(__file__).parent
PRECISIONS = (  # name, dtype of the network, precision of matrix products
  ('float32', 'float32', 'float32'),
  ('TF32', 'float32', 'tensorfloat32'),
  ('bfloat16', 'bfloat16', 'default'),
)

# ---- the search ----


def make_random_dataset(images):
  rng = np.random.default_rng(0)

  def draw(n):
    return rng.integers(0, 256, (n, 32, 32, 3), np.uint8), rng.integers(0, 10, n).astype(np.int32)

  return Dataset(
    'random',
    train=draw(images),
    test=draw(1000),
    num_classes=10,
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    in_order=True,
  )


def make_config(options, **values):
  """Returns the config of the options, with `values` {dotted key: value} on top."""
  config = default()
  config.supernet.cells_per_stage = options.depth
  config.search.evaluation_images = 1000
  if options.small:
    config.space.nodes, config.space.operations = 2, ('skip_connect', 'nor_conv_3x3')
    config.supernet.channels, config.supernet.cells_per_stage, config.search.batch_size = 2, 1, 8
  config.update_from_flattened_dict(values)
  return check(config)


def time_steps(programs, chunk, rounds=3):
  """Returns the seconds of a step in each round, which is one dispatch of `chunk` steps, after a first round."""
  states, until, seconds = programs.initial_states(), 0, []
  for _ in range(rounds + 1):
    started, until = time.perf_counter(), until + chunk
    states = jax.block_until_ready(programs.train(states, epoch=0, until=until))
    seconds.append((time.perf_counter() - started) / chunk)
  if (taken := int(states.step[0])) != until:  # a single search ends at a loss that is not finite
    sys.exit(f'error: the search ended after {taken} of {until} steps')
  return seconds[1:]


def peak_mib():
  """Returns the peak memory of the device since the process started, in MiB; '-' if the device does not report it."""
  stats = jax.local_devices()[0].memory_stats() or {}
  return round(stats['peak_bytes_in_use'] / 2**20) if 'peak_bytes_in_use' in stats else '-'


# ---- tables ----


def print_row(*cells):
  print('| ' + ' | '.join(f'{cell:.3g}' if isinstance(cell, float) else str(cell) for cell in cells) + ' |', flush=True)


def print_heading(title, *names):
  print(f'\n{title}\n')
  print_row(*names)
  print_row(*['---'] * len(names))


def compiled(setup, dataset) -> SearchPrograms:
  """Returns compiled programs. Their messages go to stderr, because stdout has the tables."""
  programs = SearchPrograms(setup, dataset)
  with contextlib.redirect_stdout(sys.stderr):
    programs.compile()
  return programs


def measure_steps(options, dataset, chunk):
  print_heading('Precision and form', 'form', 's a step', 'images/s', 'compile, s', 'peak so far, MiB')
  forms = [(precision, True) for precision in PRECISIONS] + [(PRECISIONS[0], False)]
  for (name, dtype, precision), unroll in forms:
    setup = make_search_setup(make_config(options, **{'supernet.dtype': dtype, 'supernet.unroll': unroll}), dataset)
    with jax.default_matmul_precision(precision):
      programs = compiled(setup, dataset)
      seconds = time_steps(programs, chunk)
    rate = round(2 * setup.batch_size / median(seconds))
    form = f'{name}, {"unrolled" if unroll else "scanned"}'
    print_row(form, spread(seconds, '.4g'), rate, programs.compile_seconds, peak_mib())


def measure_chunks(options, dataset, chunk):
  print_heading('Steps a dispatch', 'steps', 's a step')
  programs = compiled(make_search_setup(make_config(options), dataset), dataset)
  for size in (1, chunk, 5 * chunk):
    print_row(size, spread(time_steps(programs, size), '.4g'))


def measure_population(options, dataset, chunk):
  title = 'members', 'strategy', 's a step of all', 'against that many single runs', 'compile, s'
  print_heading('Populations', *title)
  sizes = [2] if options.small else options.members
  single = None
  for members, strategy in [(1, 'map'), *((n, strategy) for n in sizes for strategy in STRATEGIES)]:
    config = make_config(options, **{'population.seeds': members, 'parallel.strategy': strategy})
    programs = compiled(make_search_setup(config, dataset), dataset)
    seconds = time_steps(programs, chunk)
    single = single or median(seconds)
    ratio = f'{members * single / median(seconds):.2f} ×'
    print_row(members, strategy, spread(seconds, '.4g'), ratio, programs.compile_seconds)


def measure_torch(options, dataset, chunk):
  del dataset  # torch_baseline.py draws its images
  if importlib.util.find_spec('torch') is None:
    return print('\nPyTorch is not installed: its step is not measured')
  print_heading("PyTorch's step", 'form', 's a step', 'first step, s')
  sizes = ['--depth=1', '--channels=2', '--batch-size=8'] if options.small else [f'--depth={options.depth}']
  for form in ('nchw', 'tuned'):
    command = [sys.executable, str(HERE / 'torch_baseline.py'), form, f'--steps={chunk}', *sizes]
    done = subprocess.run(command, input='\n' * 4, stdout=subprocess.PIPE, text=True, check=True)
    about, *seconds = map(json.loads, done.stdout.splitlines())
    print_row(f'{form}, {about["device"]}', spread(seconds[1:], '.4g'), about['first'])


def measure_search(options, dataset, chunk):
  del chunk  # a search takes its own number of steps a dispatch
  epochs, last = (2, 1) if options.small else (100, options.epochs)
  values = {'search.epochs': epochs, 'search.last_epoch': last, 'search.steps_per_dispatch': 100}
  config = make_config(options, **values)
  started = time.perf_counter()
  setup = make_search_setup(config, dataset)
  with tempfile.TemporaryDirectory() as folder, Workdir(folder, config.to_dict()) as workdir:
    result = search_run.run(setup, dataset, None, workdir)
  seconds = time.perf_counter() - started
  parts = result.values['seconds']
  all_epochs = seconds + (epochs - last) * parts['train'] / last
  print_heading(
    'A search', 'epochs', 'steps an epoch', 'seconds', 'of which compiling', f'{epochs} epochs, computed, s'
  )
  print_row(last, setup.session.steps_per_epoch, seconds, parts['compile'], all_epochs)


PARTS = {
  'steps': measure_steps,
  'chunks': measure_chunks,
  'population': measure_population,
  'torch': measure_torch,
  'search': measure_search,
}


def parse_arguments():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--small', action='store_true', help='a tiny network, to see that the script works')
  parser.add_argument('--only', default=','.join(PARTS), help='parts, separated by commas')
  parser.add_argument('--depth', type=int, default=5, help='cells per stage')
  parser.add_argument('--members', type=int, nargs='+', default=[4], help='sizes of populations')
  parser.add_argument('--epochs', type=int, default=3, help='epochs of the search that run')
  options = parser.parse_args()
  if not 1 <= options.epochs <= 100:
    parser.error(f'--epochs={options.epochs}: expected 1 to 100')
  options.only = options.only.split(',')
  if unknown := sorted(set(options.only) - set(PARTS)):
    parser.error(f'--only={",".join(unknown)}: expected some of {", ".join(PARTS)}')
  return options


def main():
  options = parse_arguments()
  set_up(cluster='none')
  device = jax.devices()[0]
  print(f'{device.device_kind} ({device.platform}), jax {jax.__version__}')
  dataset, chunk = make_random_dataset(64 if options.small else 50_000), 2 if options.small else 20
  for part in options.only:
    PARTS[part](options, dataset, chunk)


if __name__ == '__main__':
  main()

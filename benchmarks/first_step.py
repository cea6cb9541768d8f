"""Measures the seconds from the command to the first step of a search, and the time that a checkpoint stops the loop.

  python benchmarks/first_step.py [--config nas_bench_201:cifar10,proxy] [--rounds 3]

The first round is cold: it decodes the images and compiles every program. The next ones find the programs in JAX's
compilation cache, and the images of CIFAR in the cache of decoded images. It prints a row of README.md.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time

from timing import spread

CHECKPOINTS, STEPS = 5, 8  # a checkpoint every 8 steps


def measure(config: str, started: float) -> None:
  """Runs a search up to some checkpoints. Prints the seconds to its first step, and the mean stop for a checkpoint."""
  import jax

  from beta_darts_jax.command.line import run_command_line
  from beta_darts_jax.runtime.checkpoint import Checkpoints
  from beta_darts_jax.runtime.session import Session

  after_chunk, save, record_checksums = Session.after_chunk, Checkpoints.save, Checkpoints.record_checksums
  first_steps, saves, stops = [], [], []

  def timed_after_chunk(session, state):
    jax.block_until_ready(state)
    first_steps.append(time.time() - started)
    after_chunk(session, state)
    if len(saves) > CHECKPOINTS:  # the stops of the last one have not ended
      print('seconds', first_steps[0], sum(stops) / CHECKPOINTS, flush=True)
      raise SystemExit

  def timed_save(checkpoints, *arguments):
    saves.append(arguments)
    if len(saves) <= CHECKPOINTS:
      timed(save, checkpoints, *arguments)

  def timed(function, *arguments):
    begin = time.perf_counter()
    function(*arguments)
    stops.append(time.perf_counter() - begin)

  Session.after_chunk, Checkpoints.save = timed_after_chunk, timed_save
  Checkpoints.record_checksums = lambda checkpoints: timed(record_checksums, checkpoints)
  with tempfile.TemporaryDirectory() as folder:
    sys.argv = ['beta-darts', 'search', '--config', config, f'--workdir={folder}/run']
    sys.argv += ['--config.search.steps_per_dispatch=1', f'--config.checkpoint.every_steps={STEPS}']
    run_command_line()


def run_round(config: str, cache: str) -> list[float]:
  """Returns the seconds to the first step, and the mean stop for a checkpoint."""
  command = [sys.executable, __file__, '--config', config, '--started', str(time.time())]
  done = subprocess.run(
    command, env=os.environ | {'JAX_COMPILATION_CACHE_DIR': cache}, stdout=subprocess.PIPE, text=True, check=True
  )
  return [float(word) for word in done.stdout.split('seconds ')[-1].split()]


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--config', default='nas_bench_201:cifar10,proxy')
  parser.add_argument('--rounds', type=int, default=3, help='warm rounds')
  parser.add_argument('--started', type=float, help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.started:
    return measure(options.config, options.started)
  with tempfile.TemporaryDirectory() as cache:
    cold, *warm = [run_round(options.config, cache) for _ in range(1 + options.rounds)]
  checkpoints = [1000 * stop for _, stop in (cold, *warm)]
  print('| config | cold, s | warm, s | a checkpoint, ms |\n|---|---|---|---|')
  firsts = spread([first for first, _ in warm], '.1f')
  print(f'| {options.config} | {cold[0]:.1f} | {firsts} | {spread(checkpoints, ".0f")} |')


if __name__ == '__main__':
  main()

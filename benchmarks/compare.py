"""Our bilevel step against PyTorch's, in turns: what `make benchmark` runs.

  python benchmarks/compare.py [--quick]

First the PyTorch programs must repeat the golden numbers. Then, for each case, ours and theirs stay in memory and time
a round each, one after the other, so that what else the machine does meets all of them. Prints tables for README.md:
medians (least … most) of the rounds, and of each round's ratio theirs/ours.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
CASES = {  # name → (arguments of all, more of ours, steps of a round, rounds)
  'NAS-Bench-201, C=16, N=1': (['nas_bench_201', '--depth=1'], [], 20, 5),
  'NAS-Bench-201, C=16, N=5': (['nas_bench_201', '--depth=5'], [], 10, 5),
  'DARTS, C=16, 8 cells, B=32': (['darts', '--depth=8', '--batch-size=32'], ['--scan'], 4, 3),
}
QUICK = {'NAS-Bench-201, C=4, N=1, B=16': (['nas_bench_201', '--depth=1', '--channels=4', '--batch-size=16'], [], 1, 2)}


class Contestant:
  """A process that answers each line with the seconds of a step."""

  def __init__(self, *command):
    environment = os.environ | {'JAX_ENABLE_COMPILATION_CACHE': 'false'}  # cold
    command = [sys.executable, *map(str, command)]
    self._process = subprocess.Popen(
      command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    self.about = self._answer()

  def _answer(self):
    line = self._process.stdout.readline()
    if not line:
      sys.exit(f'error: {" ".join(self._process.args)} ended with status {self._process.wait()}')
    return json.loads(line)

  def round(self) -> float:
    print(file=self._process.stdin, flush=True)
    return self._answer()

  def close(self):
    self._process.stdin.close()
    self._process.wait()


def figures(values, digits=2):
  return f'{statistics.median(values):.{digits}f} ({min(values):.{digits}f} … {max(values):.{digits}f})'


def compare(name, shared, ours, steps, rounds):
  """Prints the row of one case."""
  space, *sizes = shared
  sizes.append(f'--steps={steps}')
  theirs = [HERE / 'torch_baseline.py', '--space', space, *sizes]
  contestants = [
    Contestant(HERE / 'step.py', space, *sizes, *ours, '--serve'),
    Contestant(*theirs, 'nchw'),
    Contestant(*theirs, 'tuned'),
  ]
  seconds = [[contestant.round() for contestant in contestants] for _ in range(rounds)]
  mine, nchw, tuned = zip(*seconds, strict=True)
  about = contestants[0].about
  ratios = [[other / own for own, other in zip(mine, others, strict=True)] for others in (nchw, tuned)]
  compiling = f'{about["trace"]:.0f} + {about["compile"]:.0f}'
  row = [name, compiling, figures(mine), figures(nchw), figures(tuned), *map(figures, ratios)]
  print(f'| {" | ".join(row)} |', flush=True)
  for contestant in contestants:
    contestant.close()
  return about, contestants[1].about


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--quick', action='store_true', help='one small case, to see that everything works')
  options = parser.parse_args()
  subprocess.run([sys.executable, HERE / 'torch_baseline.py', 'check'], check=True)
  print('| step | ours: trace + compile, s | ours, s | NCHW, s | tuned, s | NCHW / ours | tuned / ours |')
  print('|---|---|---|---|---|---|---|', flush=True)
  for name, case in (QUICK if options.quick else CASES).items():
    ours, theirs = compare(name, *case)
  cores = len(os.sched_getaffinity(0))
  print(f'\n{ours["device"]}, {cores} cores, {platform.machine()}, Python {platform.python_version()}, ', end='')
  print(f'{ours["version"]}; {theirs["device"]}, {theirs["version"]}')


if __name__ == '__main__':
  main()

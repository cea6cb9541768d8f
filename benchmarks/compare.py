"""Compares our bilevel step with PyTorch's, in turns. `make benchmark` runs it.

  python benchmarks/compare.py [--quick | --large]

First the PyTorch programs must repeat the golden numbers. Then, for each case, our program and theirs stay in memory
and take turns: each one times a round, one after the other, so that the load of the machine affects all of them. The
script prints the tables of README.md: medians (least … most) of the rounds, and of each round's ratio theirs/ours.
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
from typing import NamedTuple

from timing import spread

HERE = pathlib.Path(__file__).parent


FORMS = ('nchw', 'tuned')  # of the PyTorch program, in the order of the table's columns


class Case(NamedTuple):
  """One row of the table.

  Attributes:
    name: name of the row.
    space: argument of the programs.
    sizes: options of all programs.
    ours: more options of our program.
    steps: number of steps of a round.
    rounds: their number.
    forms: those of FORMS that take part.
  """

  name: str
  space: str
  sizes: list[str]
  ours: list[str]
  steps: int
  rounds: int
  forms: tuple[str, ...] = FORMS


CASES = [
  Case('NAS-Bench-201, C=16, N=1', 'nas_bench_201', ['--depth=1'], [], steps=20, rounds=5),
  Case('NAS-Bench-201, C=16, N=5', 'nas_bench_201', ['--depth=5'], [], steps=10, rounds=5),
  Case('DARTS, C=16, 8 cells, B=32', 'darts', ['--depth=8', '--batch-size=32'], ['--scan'], steps=4, rounds=3),
]
LARGE = [Case('DARTS, C=16, 8 cells, B=64', 'darts', ['--depth=8'], ['--scan'], steps=4, rounds=3, forms=('tuned',))]
QUICK = [
  Case(
    'NAS-Bench-201, C=4, N=1, B=16',
    'nas_bench_201',
    ['--depth=1', '--channels=4', '--batch-size=16'],
    [],
    steps=1,
    rounds=2,
  )
]


class Contestant:
  """A process that runs `timing.serve`: it answers each line with the seconds of a step.

  Attributes:
    about: what the program prints about itself.
  """

  def __init__(self, script, *arguments):
    command = [sys.executable, str(HERE / script), *arguments]
    self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    self.about = self._read_answer()

  def _read_answer(self):
    line = self._process.stdout.readline()
    if not line:
      sys.exit(f'error: {" ".join(self._process.args)} ended with status {self._process.wait()}')
    return json.loads(line)

  def time_round(self) -> float:
    """Returns the seconds of a step in a round."""
    print(file=self._process.stdin, flush=True)
    return self._read_answer()

  def close(self):
    self._process.stdin.close()
    self._process.wait()


def compare(case):
  """Prints the row of a case and returns what our program and PyTorch's print about themselves."""
  sizes = [*case.sizes, f'--steps={case.steps}']
  contestants = [
    Contestant('step.py', case.space, *sizes, *case.ours, '--serve'),
    *(Contestant('torch_baseline.py', form, f'--space={case.space}', *sizes) for form in case.forms),
  ]
  rounds = [[contestant.time_round() for contestant in contestants] for _ in range(case.rounds)]
  own, *others = zip(*rounds, strict=True)
  seconds = dict(zip(case.forms, others, strict=True))
  ratios = {form: [other / our for our, other in zip(own, seconds[form], strict=True)] for form in seconds}
  columns = [spread(numbers[form]) if form in numbers else '' for numbers in (seconds, ratios) for form in FORMS]
  ours, theirs = contestants[0].about, contestants[-1].about
  row = [case.name, f'{ours["trace"]:.0f} + {ours["compile"]:.0f}', spread(own), *columns]
  print(f'| {" | ".join(row)} |', flush=True)
  for contestant in contestants:
    contestant.close()
  return ours, theirs


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  cases = parser.add_mutually_exclusive_group()
  cases.add_argument('--quick', action='store_true', help='measure one small case, to see that everything works')
  cases.add_argument(
    '--large', action='store_true', help='the DARTS space with batch size 64: PyTorch needs 11.5 GB of memory'
  )
  options = parser.parse_args()
  subprocess.run([sys.executable, HERE / 'torch_baseline.py', 'check'], check=True)
  print('| step | ours: trace + compile, s | ours, s | NCHW, s | tuned, s | NCHW / ours | tuned / ours |')
  print('|---|---|---|---|---|---|---|', flush=True)
  for case in QUICK if options.quick else LARGE if options.large else CASES:
    ours, theirs = compare(case)
  cores = len(os.sched_getaffinity(0))
  machine = f'{ours["device"]}, {cores} cores, {platform.machine()}, Python {platform.python_version()}'
  print(f'\n{machine}, {ours["version"]}; {theirs["device"]}, {theirs["version"]}')


if __name__ == '__main__':
  main()

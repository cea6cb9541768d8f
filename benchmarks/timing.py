"""How steps are timed, and how two programs take turns. This module imports neither JAX nor PyTorch."""

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable


def spread(values: Iterable[float], form: str = '.2f') -> str:
  """Returns 'median (least … most)' of the values, each in the format `form`."""
  values = list(values)
  median, least, most = (format(value, form) for value in (statistics.median(values), min(values), max(values)))
  return f'{median} ({least} … {most})'


def seconds_a_step(run: Callable[[int], None], steps: int) -> float:
  """Takes `steps` steps by `run(steps)` and returns the seconds of one step."""
  started = time.perf_counter()
  run(steps)
  return (time.perf_counter() - started) / steps


def serve(run: Callable[[int], None], steps: int, about: dict) -> None:
  """Takes a first step, prints `about` with its seconds, and then takes a round of steps for each line of stdin.

  After each round it prints the seconds of one step. All prints are lines of JSON.

  Args:
    run: takes this number of steps and waits until the device has finished them.
    steps: number of steps of a round.
    about: what to print about the program.
  """
  first = seconds_a_step(run, 1)
  print(json.dumps(about | {'first': first}), flush=True)
  for _ in sys.stdin:
    print(json.dumps(seconds_a_step(run, steps)), flush=True)

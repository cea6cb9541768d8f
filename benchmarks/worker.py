"""How a benchmark that is compared with others is driven: it waits, so that they take turns."""

import json
import sys
import time


def serve(step, steps: int, about: dict) -> None:
  """Takes a first step and says `about` and its seconds; then, for each line of stdin, times `steps` of them.

  Args:
    step: takes one step and waits until the device has done it.
    steps: of a round.
    about: what to say of the program; {} of JSON.
  """
  begun = time.perf_counter()
  step()
  print(json.dumps(about | {'first': time.perf_counter() - begun}), flush=True)
  for _ in sys.stdin:
    begun = time.perf_counter()
    for _ in range(steps):
      step()
    print(json.dumps((time.perf_counter() - begun) / steps), flush=True)

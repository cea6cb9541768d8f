"""How a benchmark that is compared with others is driven: it waits, so that they take turns."""

import json
import sys
import time


def serve(run, steps: int, about: dict) -> None:
  """Takes a first step and says `about` and its seconds; then, for each line of stdin, the seconds of one of `steps`.

  Args:
    run: takes so many steps and waits until the device has done them.
    steps: of a round.
    about: what to say of the program; {} of JSON.
  """
  begun = time.perf_counter()
  run(1)
  print(json.dumps(about | {'first': time.perf_counter() - begun}), flush=True)
  for _ in sys.stdin:
    begun = time.perf_counter()
    run(steps)
    print(json.dumps((time.perf_counter() - begun) / steps), flush=True)

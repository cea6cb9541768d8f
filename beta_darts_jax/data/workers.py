"""Batches that worker processes read ahead, by Grain."""

import atexit
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np


def stream(examples: Any, batch_size: int, first: int, workers: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Yields the batches `first`, `first` + 1, … of a sequence of examples (image, label).

  `workers` processes read the examples, or this process if there are none. The batches do not depend on it.
  """
  import grain
  from absl import flags

  if not flags.FLAGS.is_parsed():  # grain reads absl flags, which notebooks and tests do not parse
    flags.FLAGS.mark_as_parsed()
  batches = grain.MapDataset.source(examples)[first * batch_size :].batch(batch_size)
  # an element is a whole batch, so one thread and a short buffer are enough
  read_options = grain.ReadOptions(num_threads=int(workers > 0), prefetch_buffer_size=1)
  dataset = batches.to_iter_dataset(read_options)
  if workers:
    dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers), _prepare_worker)
  iterator = iter(dataset)
  atexit.register(iterator.close)  # Python does not finish this generator if it ends before
  try:
    yield from iterator
  finally:
    atexit.unregister(iterator.close)
    iterator.close()  # ends the workers, which leave their shared memory otherwise


def _prepare_worker(*_):
  """Makes a worker ignore Ctrl-C, and end with the main process.

  Ctrl-C reaches all processes, but the main one needs batches until it has saved. If the main process is killed, a
  worker would wait for it forever.
  """
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
  if parent := multiprocessing.parent_process():
    parent.join()
    os._exit(1)

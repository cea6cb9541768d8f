"""Searches that are quick to compile, and what they leave in their folders."""

import contextlib
import json
import threading

import numpy as np

from beta_darts_jax.config import default
from beta_darts_jax.config.check import check
from beta_darts_jax.data import Dataset, record
from beta_darts_jax.runtime.checkpoint import load_arrays
from beta_darts_jax.runtime.workdir import Workdir
from beta_darts_jax.search import run as search_run
from beta_darts_jax.search.setup import make_search_setup


def random_images(seed, count=64):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (count, 8, 8, 3), np.uint8), np.arange(count, dtype=np.int32) % 4


DATASET = Dataset('cifar10', random_images(0), random_images(1), 4, (0.5,) * 3, (0.25,) * 3, in_order=True)


def make_config(**changes):
  """A search of two epochs of two steps. Cells have one node with a skip connection or a 1×1 convolution on each edge.

  `changes` are config keys with __ for the dot.
  """
  config = default()
  config.space.name, config.space.nodes = 's4', 1
  config.space.operations = ('skip_connect', 'nor_conv_1x1')
  config.supernet.channels, config.supernet.layers, config.supernet.unroll = 2, 1, False
  config.search.epochs, config.search.batch_size = 2, 16
  config.update_from_flattened_dict({name.replace('__', '.', 1): value for name, value in changes.items()})
  return check(config)


def run(config, path, table=None):
  """Runs a search, or resumes it, and returns what result.json holds."""
  setup = make_search_setup(config, DATASET)
  with Workdir(path, config.to_dict(), data=record(DATASET)) as workdir:
    return search_run.run(setup, DATASET, table, workdir).values


def read_rows(path):
  return [json.loads(line) for line in (path / 'metrics.jsonl').read_text().splitlines()]


def final_state(path):
  return load_arrays(path)


@contextlib.contextmanager
def stop_at_once():
  """Stands for session.catch_stop_signals when a signal came at the start of the loop."""
  stop = threading.Event()
  stop.set()
  yield stop

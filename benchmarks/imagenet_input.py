"""Measures the images per second of ImageNet's input: decode, random resized crop 224, flip, color jitter, batches.

  TFDS_DATA_DIR=DIR python benchmarks/imagenet_input.py [--source imagenet2012] [--batch-size 64] [--batches 10]

It reads the data set in TFDS_DATA_DIR and prints rows for README.md.
"""

import argparse
import os
import time

import numpy as np

from beta_darts_jax.data import load
from beta_darts_jax.data.crops import ResizedCrops
from beta_darts_jax.data.sources import Residence
from beta_darts_jax.data.streaming import train_batches


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--source', default='imagenet2012')
  parser.add_argument('--batch-size', type=int, default=64)
  parser.add_argument('--batches', type=int, default=10, help='number of batches that are timed')
  options = parser.parse_args()
  dataset = load(options.source, residence=Residence('stream', crops=ResizedCrops()))
  cores = len(os.sched_getaffinity(0))
  for workers in sorted({0, 1, cores}):
    batches = train_batches(dataset.train, 0, options.batch_size, 0, workers, rows=np.arange(options.batch_size))
    next(batches)  # starts the workers
    started = time.perf_counter()
    for _ in range(options.batches):
      next(batches)
    rate = options.batches * options.batch_size / (time.perf_counter() - started)
    print(f'| {workers} | {options.batch_size} | {cores} | {rate:.0f} |')


if __name__ == '__main__':
  main()

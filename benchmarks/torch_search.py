"""Runs whole searches in PyTorch with torch_baseline's step, for studies/parity.py, which compares them with ours.

  PYTHONPATH=. python benchmarks/torch_search.py [--seeds N] [--epochs N] [--evidence DIR]

PyTorch draws the weights, α and the batches. The images and the hyperparameters are those of the study. The script
writes EVIDENCE/parity/runs/torch_METHOD.json for each arm, in the form in which a study keeps its own arms.
"""

import argparse
import math
import os
import pathlib
import platform
import time

import numpy as np
import torch
from torch_baseline import BenchmarkSupernet, Search

from beta_darts_jax.data import load
from beta_darts_jax.spaces import NAS_BENCH_201
from studies import parity
from studies.records import keep, record_path


def to_tensors(dataset, images, labels):
  """Returns images uint8 [N, H, W, C] as normalized float32 [N, C, H, W], and the labels [N]."""
  normalized = (images / 255.0 - dataset.mean) / dataset.std
  return torch.from_numpy(np.moveaxis(normalized, -1, 1).astype(np.float32)), torch.from_numpy(labels).long()


def run_search(config, halves, seed):
  """Runs one search and returns its rows, as in metrics.jsonl.

  Args:
    config: the config of the search.
    halves: (images [N, C, H, W], labels [N]) of the weights and of α.
    seed: seed of every random number.
  """
  torch.manual_seed(seed)
  values = config.search
  channels, cells = config.supernet.channels, config.supernet.cells_per_stage
  supernet = BenchmarkSupernet(channels, cells, inputs=halves[0][0].shape[1])
  alpha = 1e-3 * torch.randn(BenchmarkSupernet.alpha_shapes[0])
  search = Search(
    supernet, [alpha], tuned=True, clip_norm=values.clip_norm, alpha_learning_rate=values.alpha_learning_rate
  )
  search.adam.param_groups[0].update(betas=tuple(values.alpha_betas), weight_decay=values.alpha_weight_decay)
  rows = []
  for epoch in range(values.epochs):
    started = time.perf_counter()
    train_epoch(search, values, halves, epoch)
    beta = torch.softmax(alpha.detach(), 1).numpy()
    row = {'epoch': epoch, 'seed': seed, 'genotype': str(NAS_BENCH_201.derive({'cell': beta}))}
    rows.append(row | {'betas': {'cell': beta.tolist()}, 'seconds': round(time.perf_counter() - started, 3)})
  return rows


def train_epoch(search, values, halves, epoch):
  """Takes the steps of an epoch, from 0."""
  (train_images, train_labels), (alpha_images, alpha_labels) = halves
  cosine = (1 + math.cos(math.pi * epoch / values.epochs)) / 2
  rate = values.learning_rate_min + (values.learning_rate - values.learning_rate_min) * cosine
  search.sgd.param_groups[0].update(lr=rate, momentum=values.momentum, weight_decay=values.weight_decay)
  beta_decay_weight = values.beta_decay_weight * epoch / values.epochs
  order = torch.randperm(len(train_labels))
  for index in order.split(values.batch_size)[: len(order) // values.batch_size]:
    other = torch.randperm(len(alpha_labels))[: values.batch_size]
    train, valid = (train_images[index], train_labels[index]), (alpha_images[other], alpha_labels[other])
    search.step(train, valid, beta_decay_weight)


def environment():
  return {
    'device': 'cpu',
    'cores': os.cpu_count(),
    'machine': platform.machine(),
    'python': platform.python_version(),
    'versions': {'torch': torch.__version__},
  }


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--seeds', type=int, default=0, help='number of seeds; 0 takes that of the study')
  parser.add_argument('--epochs', type=int, default=0, help='number of epochs; 0 takes that of the study')
  parser.add_argument('--evidence', type=pathlib.Path, default=pathlib.Path('docs/evidence'))
  options = parser.parse_args()
  torch.set_num_threads(1)  # the network is too small for more
  for method in parity.METHODS:
    config = parity.arm(method)
    config.search.epochs = options.epochs or config.search.epochs
    config.population.seeds = options.seeds or config.population.seeds
    dataset = load(config.data.source)
    halves = [to_tensors(dataset, *half) for half in dataset.search_splits(config.data.fraction)]
    rows = []
    for seed in range(config.search.seed, config.search.seed + config.population.seeds):
      rows += run_search(config, halves, seed)
      print(f'torch_{method} seed {seed}: {rows[-1]["genotype"]}', flush=True)
    result = {'dataset': dataset.name, 'environment': environment()}
    keep(record_path(options.evidence, f'parity/torch_{method}'), config, result, rows)


if __name__ == '__main__':
  main()

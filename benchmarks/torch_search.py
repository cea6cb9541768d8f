"""Whole searches in PyTorch by torch_baseline's step: the other side of studies/parity.py.

  PYTHONPATH=. python benchmarks/torch_search.py [--seeds N] [--evidence DIR]

Weights, α and batches are drawn by PyTorch; only the images and the values of the protocol are those of the study. Of
each arm it writes EVIDENCE/parity/runs/torch_METHOD.json, in the form in which a study keeps its own arms.
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
from beta_darts_jax.spaces.space import NAS_BENCH_201
from studies import parity
from studies.records import keep, record_path


def tensors(dataset, images, labels):
  """uint8 [N, H, W, C] and labels → normalized float32 [N, C, H, W] and labels."""
  normalized = (images / 255.0 - dataset.mean) / dataset.std
  return torch.from_numpy(np.moveaxis(normalized, -1, 1).astype(np.float32)), torch.from_numpy(labels).long()


def search(config, halves, seed):
  """One search; its rows, as of metrics.jsonl."""
  torch.manual_seed(seed)
  values = config.search
  inputs = halves[0][0].shape[1]
  supernet = BenchmarkSupernet(config.supernet.channels, config.supernet.cells_per_stage, inputs)
  alpha = 1e-3 * torch.randn(BenchmarkSupernet.alpha_shapes[0])
  step = Search(supernet, [alpha], True, values.clip_norm, values.alpha_learning_rate)
  step.adam.param_groups[0].update(betas=tuple(values.alpha_betas), weight_decay=values.alpha_weight_decay)
  (train_images, train_labels), (alpha_images, alpha_labels) = halves
  rows = []
  for epoch in range(values.epochs):
    started = time.perf_counter()
    cosine = (1 + math.cos(math.pi * epoch / values.epochs)) / 2
    rate = values.learning_rate_min + (values.learning_rate - values.learning_rate_min) * cosine
    step.sgd.param_groups[0].update(lr=rate, momentum=values.momentum, weight_decay=values.weight_decay)
    order = torch.randperm(len(train_labels))
    for index in order.split(values.batch_size)[: len(order) // values.batch_size]:
      other = torch.randperm(len(alpha_labels))[: values.batch_size]
      weight = values.beta_decay_weight * epoch / values.epochs
      step.step((train_images[index], train_labels[index]), (alpha_images[other], alpha_labels[other]), weight)
    beta = torch.softmax(alpha.detach(), 1).numpy()
    rows.append(
      {
        'epoch': epoch,
        'seed': seed,
        'genotype': str(NAS_BENCH_201.derive({'cell': beta})),
        'betas': {'cell': beta.tolist()},
        'seconds': round(time.perf_counter() - started, 3),
      }
    )
  return rows


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--seeds', type=int, default=0, help='0: as many as the study')
  parser.add_argument('--evidence', type=pathlib.Path, default=pathlib.Path('docs/evidence'))
  options = parser.parse_args()
  torch.set_num_threads(1)  # the network is too small for more
  environment = {
    'device': 'cpu',
    'cores': os.cpu_count(),
    'machine': platform.machine(),
    'python': platform.python_version(),
    'versions': {'torch': torch.__version__},
  }
  for method in parity.METHODS:
    config = parity.arm(method)
    dataset = load(config.data.source)
    halves = [tensors(dataset, *half) for half in dataset.search_splits(config.data.fraction)]
    rows = []
    for seed in range(config.search.seed, config.search.seed + (options.seeds or config.population.seeds)):
      rows += search(config, halves, seed)
      print(f'torch_{method} seed {seed}: {rows[-1]["genotype"]}', flush=True)
    result = {'dataset': dataset.name, 'environment': environment}
    keep(record_path(options.evidence, f'parity/torch_{method}'), config, result, rows)


if __name__ == '__main__':
  main()

"""Run folders with made-up numbers; nothing is compiled."""

import json

import numpy as np

from beta_darts_jax.config import default, default_retrain
from beta_darts_jax.spaces.nas_bench_201 import DATASETS
from beta_darts_jax.spaces.published import PUBLISHED

CELL = '|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|nor_conv_3x3~2|'
BETAS = np.random.default_rng(0).dirichlet(np.ones(5), size=(3, 6))  # [epoch, E, O]


def make_row(epoch, **changes):
  """One row of metrics.jsonl of a search."""
  benchmark = {}
  for dataset in DATASETS:
    benchmark |= {f'{dataset}_test': 90.0 + epoch, f'{dataset}_test_regret': 3.0, f'{dataset}_test_rank': 7}
  row = {
    'epoch': epoch,
    'train_loss': 2.0 - epoch,
    'train_accuracy': 0.5,
    'valid_loss': 2.5,
    'valid_accuracy': 0.25,
    'beta_decay_weight': float(epoch),
    'learning_rate': 0.1,
    'genotype': CELL,
    'skips': 1,
    'benchmark': benchmark,
    'betas': {'cell': BETAS[epoch].tolist()},
    'seconds': 2.0,
    'images_per_second': 100.0,
    'diagnostics': {'entropies': {'cell': [1.0] * 6}, 'eigenvalues': [0.5, -2.0], 'continuous_accuracy': 0.4},
  }
  return row | changes


def make_folder(path, rows, result=None, config=None, unfinished_line=''):
  """Writes a run folder and returns its path."""
  path.mkdir(parents=True)
  (path / 'config.json').write_text(json.dumps((config or default()).to_dict()))
  (path / 'environment.json').write_text(json.dumps({'device': 'cpu', 'devices': 2, 'versions': {'jax': '1.2.3'}}))
  (path / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows) + unfinished_line)
  if result:
    (path / 'result.json').write_text(json.dumps(result))
  return path


def make_search(path):
  """Writes the folder of a finished search of three epochs and returns its path."""
  rows = [make_row(epoch) for epoch in range(3)]
  result = {
    'genotype': CELL,
    'epoch': 2,
    'valid_accuracy': 0.25,
    'benchmark': rows[-1]['benchmark'],
    'seconds': {'compile': 3.0, 'train': 6.0},
    'memory': {'host': 2**30},
    'dataset': 'cifar10',
    'baselines': {'best_of_50_by_validation': 91.63, 'optimum': 95.0},
  }
  return make_folder(path, rows, result)


def make_population(path, num_epochs=2, **baselines):
  """Writes the folder of two values of λ with five seeds each; member 9 has diverged. Returns its path."""
  config = default()
  config.population.seeds, config.population.beta_decay_weight = 5, (0.0, 5.0)
  rows = [make_row(epoch, member=k, seed=k % 5) for epoch in range(num_epochs) for k in range(10)]
  rows[-1] |= dict.fromkeys(['genotype', 'betas', 'benchmark', 'diagnostics', 'valid_accuracy'])
  members = [
    {'member': k, 'seed': k % 5, 'genotype': CELL, 'epoch': num_epochs - 1, 'benchmark': rows[0]['benchmark']}
    | {'beta_decay_weight': 5.0 * (k > 4)}
    for k in range(9)
  ]
  for k, member in enumerate(members):  # 90.0 … 90.4 % without Beta-Decay, 91.0 … 91.3 % with it
    accuracy = 90 + k % 5 / 10 + (k > 4)
    member['benchmark'] = member['benchmark'] | {'cifar10_test': accuracy, 'cifar10_test_regret': 94 - accuracy}
    member['cost'] = {'unit': 'parameters', 'derived': 1e6 + k, 'expected': 2e6, 'largest': 3e6}
  members.append({'member': 9, 'seed': 4, 'genotype': None, 'epoch': num_epochs - 1, 'beta_decay_weight': 5.0})
  return make_folder(path, rows, {'members': members, 'settings': [], 'dataset': 'cifar10'} | baselines, config)


def make_retraining(path):
  """Writes the folder of a finished retraining of two epochs and returns its path."""
  config = default_retrain()
  config.genotype = str(PUBLISHED['DARTS_V2'])
  rows = [
    {'epoch': e, 'train_loss': 1.0, 'test_accuracy': 0.5, 'learning_rate': 0.1, 'seconds': 1.0, 'images_per_second': 1}
    for e in range(2)
  ]
  result = {'genotype': config.genotype, 'test_accuracy': 0.5, 'parameters': 1234567}
  return make_folder(path, rows, result, config)

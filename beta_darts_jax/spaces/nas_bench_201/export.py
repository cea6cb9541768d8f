"""Writes the table of NAS-Bench-201 from the published NATS-Bench files."""

import csv
import os
import pathlib

from beta_darts_jax.errors import InputError
from beta_darts_jax.spaces.nas_bench_201.table import COLUMNS

_FILES = 'NATS-tss-v1_0-3ffb9-simple'


def export(natsbench: pathlib.Path, out: pathlib.Path) -> None:
  """Writes the CSV `out` from the folder NATS-tss-v1_0-3ffb9-simple. Needs the nats_bench package.

  Raises InputError if a folder or the package is missing, or the files cannot be read.
  """
  if not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
    raise InputError(f'cannot write {out}: its folder does not exist or is not writable')
  api = _open_api(natsbench)
  temporary = out.with_name(f'.{out.name}.tmp')
  with open(temporary, 'w', newline='', encoding='utf-8') as file:
    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()
    for index in range(len(api)):
      writer.writerow(_row(api, index))
  os.replace(temporary, out)


def _open_api(natsbench):
  if not natsbench.is_dir():
    raise InputError(f'{natsbench}: no such folder; expected the unpacked {_FILES}')
  try:
    import nats_bench
  except ImportError:
    raise InputError("the nats_bench package is missing: pip install 'beta-darts-jax[natsbench]'") from None
  try:
    return nats_bench.create(str(natsbench), 'tss', fast_mode=True, verbose=False)
  except Exception as error:  # nats_bench raises AssertionError and others, depending on what the folder lacks
    raise InputError(f'{natsbench}: not the unpacked {_FILES} ({error})') from None


def _row(api, index):
  def accuracy(dataset, split):
    """Mean over the trials."""
    return round(api.get_more_info(index, dataset, hp='200', is_random=False)[f'{split}-accuracy'], 4)

  cost = api.get_cost_info(index, 'cifar10', hp='200')
  return {
    'index': index,
    'arch': api.arch(index),
    'cifar10_valid': accuracy('cifar10-valid', 'valid'),  # trained on half of the training images
    'cifar10_test': accuracy('cifar10', 'test'),
    'cifar100_valid': accuracy('cifar100', 'valid'),
    'cifar100_test': accuracy('cifar100', 'test'),
    'imagenet16_120_valid': accuracy('ImageNet16-120', 'valid'),
    'imagenet16_120_test': accuracy('ImageNet16-120', 'test'),
    'trials': len(api.query_by_index(index, 'cifar10', hp='200')),
    'parameters_cifar10': round(cost['params'] * 1e6),
    'flops_cifar10': round(cost['flops'] * 1e6),
  }

"""Data sets, augmentation and batches.

This folder imports no networks, search spaces, algorithms or configs, and nothing of `runtime`.
"""

from beta_darts_jax.data.augmentation import Augmentation, normalize
from beta_darts_jax.data.batching import batches
from beta_darts_jax.data.dataset import Dataset, from_arrays
from beta_darts_jax.data.sources import load
from beta_darts_jax.data.summary import announce, describe, find_warnings, record

__all__ = [
  'Augmentation',
  'Dataset',
  'announce',
  'batches',
  'describe',
  'find_warnings',
  'from_arrays',
  'load',
  'normalize',
  'record',
]

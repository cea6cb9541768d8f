"""Data sets and augmentation.

This folder knows no network, no algorithm and nothing of how a run is executed (`runtime`).
"""

from beta_darts_jax.data.dataset import Augmentation, Dataset, load, normalize

__all__ = ['Augmentation', 'Dataset', 'load', 'normalize']

"""Search spaces, genotypes, published cells and the NAS-Bench-201 table: what can be searched and what was found.

This folder must not know networks, optimizers, data sets, configs or runs. It needs only numpy, and jax.numpy for α.
"""

from beta_darts_jax.spaces.genotype import Cell, Genotype
from beta_darts_jax.spaces.lookup import find_genotype
from beta_darts_jax.spaces.nas_bench_201 import NasBench201
from beta_darts_jax.spaces.published import PUBLISHED, short_name
from beta_darts_jax.spaces.space import (
  DARTS,
  DARTS_WITH_NONE,
  MOBILE,
  NAS_BENCH_201,
  S1,
  S2,
  S3,
  S4,
  SPACES,
  SearchSpace,
  make_space,
  softmax_betas,
)

__all__ = [
  'DARTS',
  'DARTS_WITH_NONE',
  'MOBILE',
  'NAS_BENCH_201',
  'PUBLISHED',
  'S1',
  'S2',
  'S3',
  'S4',
  'SPACES',
  'Cell',
  'Genotype',
  'NasBench201',
  'SearchSpace',
  'find_genotype',
  'make_space',
  'short_name',
  'softmax_betas',
]

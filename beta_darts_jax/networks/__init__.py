"""The networks as Flax Linen modules: candidate operations, supernet, discrete networks, and their official weights.

This folder knows no algorithm (`method`), no data set and no config. It is the only one that imports flax.linen.
"""

from beta_darts_jax.networks import interop
from beta_darts_jax.networks.costs import COUNTS, PlacedOperation, multiply_adds, operation_costs
from beta_darts_jax.networks.discrete import NasBench201Network, Network
from beta_darts_jax.networks.mobile.network import MobileNetwork
from beta_darts_jax.networks.operations import BUILT_IN, OPERATIONS, known_operations
from beta_darts_jax.networks.skeletons import check_image_size
from beta_darts_jax.networks.supernet import Supernet

__all__ = [
  'BUILT_IN',
  'COUNTS',
  'OPERATIONS',
  'MobileNetwork',
  'NasBench201Network',
  'Network',
  'PlacedOperation',
  'Supernet',
  'check_image_size',
  'interop',
  'known_operations',
  'multiply_adds',
  'operation_costs',
]

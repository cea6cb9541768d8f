"""The values of a run: defaults, meanings, allowed values.

This folder knows no network and nothing of how a run is executed.
"""

from beta_darts_jax.config.schema import DEFAULTS, default, default_retrain, described, leaves, reference

__all__ = ['DEFAULTS', 'default', 'default_retrain', 'described', 'leaves', 'reference']

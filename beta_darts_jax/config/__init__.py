"""The values of a run: one table with the default, the meaning and the allowed values of each key.

This folder knows no network and nothing about how a run is executed.
"""

from beta_darts_jax.config.schema import DEFAULTS, default, default_retrain, flatten, ignored_options, keys_of

__all__ = ['DEFAULTS', 'default', 'default_retrain', 'flatten', 'ignored_options', 'keys_of']

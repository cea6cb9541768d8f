"""The page report.html: the results of one run, or of several runs side by side; the index of a folder; loggers.

This folder reads the files of run folders. It runs no search and no training. It needs the extra [report].
"""

from beta_darts_jax.report.loggers import find_loggers
from beta_darts_jax.report.page import figures_folder, watch, write

__all__ = [
  'figures_folder',
  'find_loggers',
  'watch',
  'write',
]

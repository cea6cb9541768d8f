"""The page report.html: the results of one run, or of several runs side by side; the index of a folder; loggers.

This folder reads the files of run folders and knows nothing of how they were computed. It needs the extra [report].
`run_command` runs the commands of the command line that are no run.
"""

from beta_darts_jax.report.commands import finish, page_of_unfinished_run, run_command
from beta_darts_jax.report.loggers import find_loggers
from beta_darts_jax.report.page import figures_folder, watch, write

__all__ = [
  'figures_folder',
  'find_loggers',
  'finish',
  'page_of_unfinished_run',
  'run_command',
  'watch',
  'write',
]

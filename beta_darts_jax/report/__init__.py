"""The page of one or several runs, made from the files in their folders."""

from beta_darts_jax.report.page import figures_folder, write

__all__ = ['figures_folder', 'write']

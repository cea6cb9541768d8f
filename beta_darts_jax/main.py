"""Searches, retrains and reports, from the command line or from Python.

  python -m beta_darts_jax.main --config configs/digits.py [--workdir DIR] [--config.KEY=VALUE …]

The config says whether this is a search or a retraining. --report RUN… and --export RUN are the commands report and
export of beta-darts.

Exit status: 0 the run is finished, or a signal stopped it after its state was saved; 1 the loss is not finite; 2 the
input cannot be used; 3 another process of the run has ended. Outside the training loop a signal has the system's
default action.
"""

import sys

from beta_darts_jax import __version__
from beta_darts_jax.command.usage import HELP, print_commands


def cli() -> None:
  """The console command beta-darts."""
  if sys.argv[1:] == ['--version']:
    print(f'beta_darts_jax {__version__}')
  elif not sys.argv[1:] or (HELP & set(sys.argv[1:]) and sys.argv[1].startswith('-')):
    print_commands(__doc__)
  else:
    from beta_darts_jax.command.line import run_command_line  # imports JAX, which takes a second

    run_command_line()


if __name__ == '__main__':
  cli()

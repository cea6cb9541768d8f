"""Differentiable architecture search: searches, retrains, reports and exports.

beta-darts COMMAND …                                            the commands are below
python -m beta_darts_jax.main --config FILE[:ARGUMENTS] …       beta-darts search or retrain, as the config says;
                                                                --report RUN… and --export RUN also work
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

"""The command line: flags, signals, messages and the exit status."""

import io
import os
import shlex
import signal
import sys

import jax
from absl import app, flags, logging

from beta_darts_jax.command.names import describe_names
from beta_darts_jax.command.parsing import define_flags, parse
from beta_darts_jax.command.runs import run_retrain, run_search
from beta_darts_jax.command.tools import run_tool
from beta_darts_jax.config import DEFAULTS, ignored_options
from beta_darts_jax.errors import InputError, NonFiniteLoss, Stopped, naming
from beta_darts_jax.runtime.devices import set_up
from beta_darts_jax.runtime.logs import TimedLines
from beta_darts_jax.runtime.processes import check_cluster, is_process_zero, leave_broken_run

CLUSTER = ('coordinator', 'processes', 'process')  # keys of config.parallel


def run_command_line() -> None:
  """Runs the command in sys.argv and exits the process with its status."""
  if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it is SIG_IGN in the background
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends the process at once, also while XLA compiles
  signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `beta-darts list | head` ends without an error
  logging.set_verbosity(logging.ERROR)  # Orbax and TFDS warn of what no user can change
  define_flags()
  if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(errors='backslashreplace')  # as stderr has it: a name that cannot be printed ends no run
  try:
    app.run(_main, flags_parser=parse)
  except (InputError, flags.Error, NonFiniteLoss) as error:
    print('error:', ' '.join(str(error).split()), file=sys.stderr)
    sys.exit(1 if isinstance(error, NonFiniteLoss) else 2)
  except jax.errors.JaxRuntimeError as error:
    leave_broken_run(error)


def _main(arguments) -> int:
  command, *words = arguments
  if command == 'list':
    print(describe_names(*words))
    return 0
  if command not in DEFAULTS:
    return run_tool(command, words, flags.FLAGS)
  signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # a lost connection is an exception in a run
  config = flags.FLAGS.config
  with naming('config.parallel'):
    check_cluster(*(config.parallel[name] for name in CLUSTER))
  set_up(**{name: config.parallel[name] for name in ('cpu_devices', 'cluster', *CLUSTER)})
  if not is_process_zero():
    sys.stdout = open(os.devnull, 'w', errors='backslashreplace')  # noqa: SIM115 (process 0 prints)
  elif not sys.stdout.isatty():
    sys.stdout = TimedLines(sys.stdout)
  for message in ignored_options(config):
    print(message)
  command = shlex.join(['python', '-m', 'beta_darts_jax.main', *sys.argv[1:]])
  run = run_search if config.task == 'search' else run_retrain
  try:
    run(config, flags.FLAGS.workdir, command)
  except Stopped:
    print('Stopped. The same command resumes the run.')
  return 0

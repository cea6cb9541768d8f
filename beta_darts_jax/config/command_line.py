"""The flags of the command, and errors about them in one line."""

import os
import pathlib
import re
import sys
import traceback

from absl import flags
from ml_collections import config_flags

from beta_darts_jax.config.check import check, unknown_key
from beta_darts_jax.config.schema import DEFAULTS, keys_of
from beta_darts_jax.errors import InputError

PACKAGE = pathlib.Path(__file__).parents[1]
HELP = {'--help', '-h', '-help', '--helpfull', '--helpshort'}


def define_flags() -> None:
  """Defines the flags of the command. Call it once."""
  config_flags.DEFINE_config_file('config', None, 'FILE[:ARGUMENTS] with get_config().', lock_config=True)
  flags.DEFINE_string('workdir', None, 'Folder of the run; default runs/NAME-DATASET-SEED.')
  flags.DEFINE_string('report', None, 'Folder of a run, or a folder of runs; more may follow. Writes a page.')
  flags.DEFINE_string('out', None, 'File of --report (default report.html in the run), or folder of --export.')
  flags.DEFINE_bool('png', False, 'With --report: also writes every figure as a PNG.')
  flags.DEFINE_string('export', None, 'Folder of a finished retraining. Writes its network into the folder --out.')
  flags.DEFINE_string('format', 'torch', 'Of --export: torch, stablehlo, safetensors or onnx.')
  flags.DEFINE_bool('watch', False, 'With --report: writes the page again and again while the run is running.')


def parse(argv: list[str], usage: str) -> list[str]:
  """Parses the flags, loads the config file and checks the config; `usage` is the head of the text of --help.

  Returns:
    The program's name and the arguments that are not flags.

  Raises:
    InputError, flags.Error: a mistake on the command line. An error inside the user's config file is raised as it is.
  """
  if HELP & set(argv[1:]):
    print_help(usage)
    sys.exit(0)
  argv = [find_config(argument) for argument in argv]
  if not any(re.match('--?config(=|$)', argument) for argument in argv) and any(
    re.match(r'--?(no)?config\.', a) for a in argv
  ):
    raise InputError('--config=FILE[:ARGUMENTS] is missing')
  sys.argv[1:] = argv[1:]  # ml_collections reads --config.KEY from there
  try:
    rest = flags.FLAGS(argv)
  except (AttributeError, KeyError, TypeError, ValueError, flags.Error) as error:
    chain = _causes(error)  # absl and ml_collections put the text of an error into errors of their own
    for cause in reversed(chain):
      if isinstance(cause, InputError) or _is_raised_in_config_file(cause):
        raise cause from None
    if isinstance(error, flags.Error) and len(chain) < 3:
      raise
    raise InputError(_explain(chain[-1], argv)) from None
  values = flags.FLAGS
  if values.report is not None:
    if values.config is not None or values.workdir is not None or values.export is not None:
      raise InputError('--report: expected without --config, --workdir and --export')
    return rest
  if values.export is not None:
    if values.workdir is not None or values.out is None or rest[1:]:
      raise InputError('--export=RUN: expected with --out=FOLDER, and without --workdir')
    return rest  # the config file, if one is given, has registered operations
  if values.out is not None or values.png or values.watch:
    raise InputError('--out, --png and --watch: expected with --report only')
  if rest[1:]:
    raise InputError(f'unexpected arguments {" ".join(rest[1:])}: expected --config, --workdir, --report or --export')
  if values.config is None:
    raise InputError('--config=FILE[:ARGUMENTS] is missing')
  check(values.config)
  return rest


def _causes(error: BaseException) -> list[BaseException]:
  """Returns the error, its cause, the cause of that, and so on."""
  cause = error.__cause__ or error.__context__
  return [error, *(_causes(cause) if cause else [])]


def _is_raised_in_config_file(error: BaseException) -> bool:
  """Returns whether the error was raised below get_config, or while the file was imported."""
  names = {frame.name for frame in traceback.extract_tb(error.__traceback__)}
  return bool(names & {'get_config', '<module>'})


def find_config(argument: str) -> str:
  """Replaces configs/FILE in an argument by the installed file if the current folder has no such file.

  Raises:
    InputError: the argument names a config file that does not exist.
  """
  match = re.fullmatch(r'(--?config=)?(?!-)([^:]+\.py)(:.*)?', argument)
  if not match or os.path.isfile(match[2]):
    return argument
  for folder in (PACKAGE, PACKAGE.parent):  # an installed package, a clone
    if match[2].startswith('configs/') and (folder / match[2]).is_file():
      return f'{match[1] or ""}{folder / match[2]}{match[3] or ""}'
  shipped = sorted({file.name for folder in (PACKAGE, PACKAGE.parent) for file in folder.glob('configs/*.py')})
  raise InputError(f'--config={match[2]}: no such file; configs/ has {", ".join(shipped)}')


def _explain(error: BaseException, argv: list[str]) -> str:
  """Returns a message about an override of the config that ml_collections could not apply."""
  names = {task: [key.name for key in keys_of(task)] for task in DEFAULTS}
  for argument in argv:
    match = re.match(r'--?(?:no)?config\.([\w.]+)', argument)
    if match and not any(match[1] in known for known in names.values()):
      group = match[1].partition('.')[0]
      is_retrain = not any(name.startswith(f'{group}.') for name in names['search'])
      return unknown_key(match[1], 'retrain' if is_retrain else 'search')
  return f'--config: {error}'


def print_help(usage: str) -> None:
  """Prints the usage and every key of the configs."""
  print(f'{usage}\nThe configs are in configs/.')
  for task, title in {'search': 'Every KEY of a search', 'retrain': 'Every KEY of a retraining'}.items():
    print(f'\n{title}:\n')
    for key in keys_of(task):
      print(f'  {key.name} = {key.default!r}  # {key.description}')

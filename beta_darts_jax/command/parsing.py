"""Reads the command line: the command, its flags and the config. A mistake is an error of one line."""

import ast
import difflib
import itertools
import os
import pathlib
import re
import sys
import traceback
from collections.abc import Iterator

from absl import flags
from ml_collections import config_flags

from beta_darts_jax.command.usage import COMMANDS, HELP
from beta_darts_jax.config.check import check, unknown_key
from beta_darts_jax.config.schema import DEFAULTS, keys_of, task_of
from beta_darts_jax.config.shipped import configs
from beta_darts_jax.errors import InputError

_RUNS = {'search': 'search', 'retrain': 'retraining'}
FLAGS: dict[str, str | bool | None] = {  # name: default
  'workdir': None, 'report': None, 'out': None, 'png': False, 'watch': False, 'export': None, 'format': 'torch',
}  # fmt: skip


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
  """Defines the flags of the command. Call it once."""
  meaning = 'NAME or FILE[:ARGUMENTS] with get_config().'
  config_flags.DEFINE_config_file('config', None, meaning, lock_config=True, flag_values=values)
  for name, default in FLAGS.items():
    if isinstance(default, bool):
      flags.DEFINE_bool(name, default, 'see COMMANDS', flag_values=values)
    else:
      flags.DEFINE_string(name, default, 'see COMMANDS', flag_values=values)


def parse(argv: list[str], values: flags.FlagValues = flags.FLAGS) -> list[str]:
  """Parses the command and its flags, loads the config file and checks the config.

  Without a command, --report and --export are the commands of these names. Otherwise the command is search, also if the
  config is that of a retraining.

  Returns:
    The command, and its arguments that are not flags.

  Raises:
    InputError, flags.Error: a mistake on the command line. An error inside the user's config file is raised as it is.
  """
  command = argv[1] if argv[1:] and not argv[1].startswith('-') else ''
  if command and command not in COMMANDS:
    raise InputError(f'unknown command {command!r}: expected one of {", ".join(COMMANDS)}')
  if command in ('study', 'query'):  # they parse their arguments themselves
    values(argv[:1])
    return argv[1:]
  if command and HELP & set(argv[2:]):
    print_help(command)
    for file, _ in _given_configs(find_configs(argv)):
      print(f'\n{ast.get_docstring(_parse(file)) or ""}')
    sys.exit(0)
  words = _parse_flags(find_configs([argv[0], *argv[2:]] if command else argv), values, command)[1:]
  chosen = command or next((name for name in ('report', 'export') if values[name].present), 'search')
  if chosen in ('report', 'export') and values[chosen].present:
    words = [getattr(values, chosen), *words]
  _check_flags(chosen, words, values)
  if chosen in ('search', 'retrain'):
    if command and (task := task_of(values.config)) != command:
      raise InputError(f'this is the config of a {_RUNS[task]}: use beta-darts {task}')
    check(values.config)
  return [chosen, *words]


def _parse_flags(argv: list[str], values: flags.FlagValues, command: str) -> list[str]:
  """Returns the program and the words that are not flags."""
  names_config = any(re.match('--?config(=|$)', argument) for argument in argv)
  changes_config = any(re.match(r'--?(no)?config\.', argument) for argument in argv)
  if changes_config and not names_config:
    raise InputError('--config=FILE[:ARGUMENTS] is missing')
  for file, argument in _given_configs(argv):
    if os.path.isfile(file):  # a pipe can be read only once
      _check_argument(file, argument)
  sys.argv[1:] = argv[1:]  # ml_collections reads --config.KEY from there
  try:
    return values(argv)
  except (AttributeError, KeyError, TypeError, ValueError, flags.Error) as error:
    chain = _causes(error)  # absl and ml_collections put the text of an error into errors of their own
    for cause in reversed(chain):
      if isinstance(cause, InputError) or _is_raised_in_config_file(cause):
        raise cause from None
    if not_a_number := _find_unreadable_number(argv):
      raise InputError(not_a_number) from None
    if isinstance(error, flags.UnrecognizedFlagError):
      raise InputError(_explain_flag(error.flagname, command)) from None
    is_from_absl = len(chain) < 3  # an error of the config has the errors of ml_collections and absl around it
    if isinstance(error, flags.Error) and is_from_absl:
      raise
    raise InputError(_explain(chain[-1], argv)) from None


def _check_flags(command: str, words: list[str], values: flags.FlagValues) -> None:
  """Checks that the command has what it needs, and only flags and words that it knows."""
  known = {command, *COMMANDS[command].flags}
  given = [f'--{name}' for name in ('config', *FLAGS) if values[name].present and name not in known]
  most_words = {'export': 1, 'list': 1, 'report': len(words)}.get(command, 0)
  given += words[most_words:]
  if given:
    raise InputError(f'unexpected {" ".join(given)}: expected beta-darts {command} {COMMANDS[command].arguments}')
  if command in ('report', 'export') and not words:
    raise InputError(f'the folder of a run is missing: expected beta-darts {command} {COMMANDS[command].arguments}')
  if command == 'export' and values.out is None:
    raise InputError('--out=FOLDER is missing: the network is exported there')
  if command in ('search', 'retrain') and values.config is None:
    raise InputError(f'--config=NAME or --config=FILE[:ARGUMENTS] is missing; the configs are {", ".join(configs())}')


def _causes(error: BaseException) -> list[BaseException]:
  """Returns the error, its cause, the cause of that, and so on, up to an error that was raised `from None`."""
  cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
  return [error, *(_causes(cause) if cause else [])]


def _is_raised_in_config_file(error: BaseException) -> bool:
  """Returns whether the error was raised below get_config, or while the file was imported."""
  names = {frame.name for frame in traceback.extract_tb(error.__traceback__)}
  return bool(names & {'get_config', '<module>'})


def find_configs(argv: list[str]) -> list[str]:
  """Returns the arguments with the file of --config in place of the name of a config.

  NAME, NAME.py, configs/NAME and configs/NAME.py all mean the file of the current folder or, without such a file, the
  config of this package.

  Raises:
    InputError: --config names neither a file nor a config.
  """
  found = [*argv]
  for i, argument in enumerate(argv):
    if match := re.fullmatch('(--?config=)(.*)', argument):
      found[i] = match[1] + _find_config(match[2])
    elif re.fullmatch('--?config', argument) and argv[i + 1 :]:
      found[i + 1] = _find_config(argv[i + 1])
  return found


def _find_config(value: str) -> str:
  path, colon, arguments = value.partition(':')
  name = path.removeprefix('configs/').removesuffix('.py')
  for file in (path, f'configs/{name}.py', configs().get(name, '')):
    if os.path.exists(file) and not os.path.isdir(file):  # a file or a pipe
      return f'{file}{colon}{arguments}'
  similar = difflib.get_close_matches(name, configs(), n=1)
  hint = f' Did you mean {similar[0]}?' if similar else ''
  raise InputError(f'--config={path}: no such file.{hint} The configs are {", ".join(configs())}')


def _given_configs(argv: list[str]) -> list[tuple[str, str]]:
  """Returns the file and the argument of each --config; the argument is '' if none is given."""
  words = [word for given in argv for word in given.split('=', 1)]
  values = [value for name, value in itertools.pairwise(words) if re.fullmatch('--?config', name)]
  return [(file, argument) for file, _, argument in (value.partition(':') for value in values)]


def _check_argument(file: str, argument: str) -> None:
  """Raises InputError if get_config of the file takes no argument but one is given, or needs one that is missing."""
  functions = [statement for statement in _parse(file).body if isinstance(statement, ast.FunctionDef)]
  parameters = [function.args for function in functions if function.name == 'get_config']
  if not parameters:  # get_config is made in another way
    return
  names = [parameter.arg for parameter in (*parameters[-1].posonlyargs, *parameters[-1].args)]
  if argument and not (names or parameters[-1].vararg):
    raise InputError(f'--config={file}:{argument}: this config takes no argument')
  if not argument and len(names) > len(parameters[-1].defaults):
    raise InputError(f'--config={file}: this config needs an argument: --config={file}:{names[0].upper()}')


def _parse(file: str | os.PathLike) -> ast.Module:
  return ast.parse(pathlib.Path(file).read_bytes(), str(file))


def _explain(error: BaseException, argv: list[str]) -> str:
  """Returns a message about an override of the config that ml_collections could not apply."""
  if isinstance(error, AttributeError) and 'get_config' in str(error):
    files = ', '.join(file for file, _ in _given_configs(argv))
    return f'--config={files}: the file has no function get_config'
  names = {task: [key.name for key in keys_of(task)] for task in DEFAULTS}
  for argument in argv:
    match = re.match(r'--?(?:no)?config\.([\w.]+)', argument)
    if match and not any(match[1] in known for known in names.values()):
      group = match[1].partition('.')[0]
      tasks = [task for task, known in names.items() if any(name.startswith(f'{group}.') for name in known)]
      return unknown_key(match[1], tasks[0] if tasks else 'search')
    if match and isinstance(error, KeyError) and error.args[0] in match[1].split('.'):
      return f'config.{match[1]}: a {_RUNS["retrain" if match[1] in names["search"] else "search"]} has no such key'
  return f'--config: {error}'


def _explain_flag(name: str, command: str) -> str:
  """Returns a message about an unknown flag, with similar flags, or keys of the config that end like it."""
  tasks = [task for task in DEFAULTS if command in ('', task)]  # the other commands have no keys
  keys = [key.name for task in tasks for key in keys_of(task)]
  similar = [f'config.{key}' for key in dict.fromkeys(keys) if f'.{key}'.endswith(f'.{name}')]
  if not similar:
    similar = difflib.get_close_matches(name, ['config', *FLAGS, *keys], n=1)
    similar = [f'config.{found}' if found in keys else found for found in similar]
  hint = f' Did you mean {" or ".join(f"--{found}" for found in similar)}?' if similar else ''
  help_of = f'beta-darts {command} --help' if command else 'beta-darts --help'
  return f'unknown flag --{name}.{hint} {help_of} prints all flags'


def _find_unreadable_number(argv: list[str]) -> str:
  """Returns a message about the first --config.KEY=VALUE whose value should be a number and is none; else ''."""
  keys = {key.name: key for task in DEFAULTS for key in keys_of(task)}
  for name, value in _overrides(argv):
    key = keys.get(name)
    if key and isinstance(key.default, (int, float)) and not isinstance(key.default, bool):
      try:
        key.item_type(value)
      except ValueError:
        return f'config.{name}={value}: expected {key.expected}'
  return ''


def _overrides(argv: list[str]) -> Iterator[tuple[str, str]]:
  """Yields KEY and VALUE of each --config.KEY=VALUE and --config.KEY VALUE; VALUE is '' if none is given."""
  for word, following in itertools.pairwise([*argv, '']):
    if match := re.fullmatch(r'--?config\.([\w.]+)(=.*)?', word):
      separate_value = '' if following.startswith('-') else following
      yield match[1], match[2][1:] if match[2] else separate_value


def print_help(command: str) -> None:
  """Prints the flags of a command, and of a run the keys of its config."""
  arguments, meaning, flags_of_command = COMMANDS[command]
  print(f'beta-darts {command} {arguments}\n\n{meaning}\n')
  for name, meaning in flags_of_command.items():
    print(f'  --{name:7}  {meaning}')
  if command in DEFAULTS:
    print('\nEvery KEY, its default and its meaning:\n')
    for key in keys_of(command):
      print(f'  {key.name} = {key.default!r}  # {key.description}')

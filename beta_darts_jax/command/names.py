"""The names that a command line can use."""

import ast
import re
import textwrap

from beta_darts_jax.config import keys_of
from beta_darts_jax.config.named_methods import METHODS, Method
from beta_darts_jax.config.schema import BUILT_IN_CHOICES, DEFAULTS
from beta_darts_jax.config.shipped import configs
from beta_darts_jax.errors import InputError
from beta_darts_jax.networks import OPERATIONS
from beta_darts_jax.report.loggers import LOGGERS
from beta_darts_jax.spaces import PUBLISHED, SPACES

KINDS = {  # kind: where its names are used
  'configs': '--config NAME or --config NAME:ARGUMENTS',
  'data': '--config.data.source=NAME',
  'methods': (
    '--config SPACE:DATASET[,proxy][,METHOD], the protocol of the space or its short form proxy, or\n'
    '  SPACE:DATASET,METHOD,own, the protocol of the method. SPACE is nas_bench_201, darts or mobile.\n'
    '  λ is 0 unless the name begins with beta_.'
  ),
  'spaces': '--config.space.name=NAME',
  'operations': """--config.space.operations="('NAME', …)" and bd.OPERATIONS""",
  'parts': (
    '--config.KEY=NAME, for example --config.relaxation.sampling=gumbel, and for several:\n'
    """  --config.loggers="('tensorboard',)". network.* and train.* belong to retrainings."""
  ),
  'cells': '--config.genotype=NAME and bd.PUBLISHED',
}


def describe_names(kind: str = '') -> str:
  """Returns the names of one kind, or of all kinds of KINDS, and where they are used.

  Raises:
    InputError: unknown kind.
  """
  if kind and kind not in KINDS:
    raise InputError(f'list {kind}: expected one of {", ".join(KINDS)}')
  return '\n\n'.join(f'{name}: {KINDS[name]}\n{_lines(name)}' for name in KINDS if kind in ('', name))


def _lines(kind: str) -> str:
  if kind == 'configs':
    return _table({name: describe_config(file) for name, file in configs().items()})
  if kind == 'methods':
    return _table({name: _describe(method) for name, method in METHODS.items()})
  if kind == 'parts':
    keys = {key.name: key for task in DEFAULTS for key in keys_of(task)}
    parts = {name: ', '.join(keys[name].choices or ()) for name in BUILT_IN_CHOICES}
    return _table({**parts, 'loggers': ', '.join(LOGGERS)})
  if kind == 'cells':
    skeletons = {name: genotype.skeleton for name, genotype in PUBLISHED.items()}
    families = dict.fromkeys(skeletons.values())
    return _table({family: ', '.join(name for name in skeletons if skeletons[name] == family) for family in families})
  if kind == 'spaces':
    return _table({name: ', '.join(sorted(space.operation_names)) for name, space in SPACES.items()})
  source = next(key.meaning for key in keys_of('search') if key.name == 'data.source')
  names = {'data': [source.removeprefix('data set: ')], 'operations': OPERATIONS}[kind]
  return textwrap.fill(', '.join(names), 120, initial_indent='  ', subsequent_indent='  ')


def _describe(method: Method) -> str:
  values = ', '.join(f'{key}={value}' for key, value in method.values.items())
  return f'{method.meaning} ({values})' if values else method.meaning


def describe_config(file) -> str:
  """Returns the first line of the docstring, and the arguments in the command lines after it, with their meaning."""
  text = ast.get_docstring(ast.parse(file.read_text(encoding='utf-8'))) or ''
  line, commands, *_ = [*text.split('\n\n'), '', '']
  arguments = dict.fromkeys(re.findall(rf'--config configs/{file.stem}\.py:(\S+)', commands))
  if not arguments:
    return line
  names = dict.fromkeys(re.findall('[A-Z]{2,}', ' '.join(arguments)))
  meanings = [re.search(rf'\b{name} is (?:[^.;]|\.(?=\w))+', text) for name in names]  # up to the end of the sentence
  return '. '.join([f'{line} ARGUMENTS: {" or ".join(arguments)}', *(found[0] for found in meanings if found)])


def _table(meanings: dict[str, str]) -> str:
  width = max(map(len, meanings))
  lines = [f'  {name:{width}}  {meaning}' for name, meaning in meanings.items()]
  return '\n'.join(textwrap.fill(line, 120, subsequent_indent=' ' * (width + 4)) for line in lines)

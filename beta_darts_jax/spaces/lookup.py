"""Finds the genotype that a user names: a published cell, a run folder, a file, an index, or a text."""

import json
import os
import pathlib

from beta_darts_jax.errors import InputError
from beta_darts_jax.spaces.genotype import Genotype
from beta_darts_jax.spaces.nas_bench_201.table import HOW_TO_GET, NUM_CELLS, find_table
from beta_darts_jax.spaces.published import PUBLISHED, near_names, published_name


def find_genotype(text: str, table_path: str = '') -> tuple[Genotype, bool]:
  """Reads a genotype from the place that a user names.

  Args:
    text: the name of a published cell, the folder of a finished search, a file with the text of a genotype, the index
      of a cell of NAS-Bench-201, or the text itself (see Genotype.parse).
    table_path: the table that has the index; '' is NAS_BENCH_201_TABLE.

  Returns:
    The genotype, and whether its search space adds auxiliary skips.

  Raises:
    InputError: `text` is none of these, or it is both a published cell and a file or a run.
  """
  names = ', '.join(PUBLISHED)
  if not text:
    raise InputError(
      f'the genotype is missing: expected the folder of a search, a file, the text of a genotype, an index of '
      f'NAS-Bench-201, or one of {names}'
    )
  text = os.path.expanduser(text)
  if text in PUBLISHED:
    if os.path.isfile(text) or os.path.isfile(os.path.join(text, 'genotype.json')):
      raise InputError(
        f'{text} is a published cell, and a file or a run here has this name: expected ./{text} for that one, or '
        'another current folder for the published cell'
      )
    return PUBLISHED[text], False
  if os.path.isdir(text):
    return _read_file(_file_of_run(pathlib.Path(text)))
  if os.path.isfile(text):  # False for a text that is too long for a file name
    return _read_file(pathlib.Path(text))
  if name := published_name(text):
    return PUBLISHED[name], False
  if text.isdecimal():
    return _find_index(int(text), table_path), False
  if any(character in text for character in '|([{"'):
    return Genotype.parse(text), False
  if '/' in text:
    raise InputError(f'{text}: no such folder or file')
  near = near_names(text)
  hint = f' Did you mean {" or ".join(near)}?' if near else ''
  raise InputError(f'{text!r} is not a folder, a file or a published cell.{hint} The published cells are {names}')


def _find_index(index, table_path):
  """Returns the cell that NAS-Bench-201 numbers `index`."""
  if index >= NUM_CELLS:
    raise InputError(f'{index}: the indices of NAS-Bench-201 are 0 … {NUM_CELLS - 1}')
  table = find_table(table_path)
  if table is None:
    raise InputError(f'{index} is an index of NAS-Bench-201. {HOW_TO_GET}')
  return table.at(index)


def _file_of_run(folder):
  file = folder / 'genotype.json'
  if file.is_file():
    return file
  if (folder / 'members').is_dir():
    raise InputError(f'{folder} holds a population: expected one of its members, {folder}/members/K')
  if (folder / 'config.json').is_file() and not (folder / 'result.json').is_file():
    raise InputError(f'{folder} has no genotype.json because its run is not finished')
  raise InputError(f'{folder} has no genotype.json: expected the folder of a finished search')


def _read_file(path):
  try:
    content = path.read_text(encoding='utf-8-sig')
  except (OSError, UnicodeDecodeError) as error:
    raise InputError(f'{path} cannot be read as a genotype: {error}') from None
  try:
    tree = json.loads(content)
  except ValueError:
    tree = None
  if isinstance(tree, dict) and isinstance(tree.get('genotype'), str):  # genotype.json of a run
    space = tree.get('space')
    return Genotype.parse(tree['genotype']), isinstance(space, dict) and bool(space.get('auxiliary_skip'))
  return Genotype.parse(content), False

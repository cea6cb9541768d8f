"""Finds the genotype that a user names: a run folder, a file, a published cell, or the text itself."""

import difflib
import json
import os
import pathlib

from beta_darts_jax.errors import InputError
from beta_darts_jax.spaces.genotype import Genotype, published


def find_genotype(text: str) -> tuple[Genotype, bool]:
  """Reads what a user calls a genotype.

  Args:
    text: the folder of a search, a file with a genotype's text or JSON, the name of a published cell, or the text.

  Returns:
    (genotype, whether its search space adds auxiliary skips).

  Raises:
    InputError: it is none of them.
  """
  if not text:
    raise InputError(
      'the genotype (config.genotype of a retraining) is missing: allowed are the folder of a search, a file, '
      f'a name of {", ".join(published())}, or the text itself'
    )
  if text in published():
    return published()[text], False
  path = pathlib.Path(text)
  if os.path.isdir(text):
    path /= 'genotype.json'
    if not path.is_file():
      within = ', of a population members/K in it' if (path.parent / 'members').is_dir() else ''
      unfinished = (path.parent / 'config.json').is_file() and not (path.parent / 'result.json').is_file()
      raise InputError(
        f'{text} has no genotype.json{" and is not finished" if unfinished else ""}: allowed is the folder of a '
        f'finished search{within}'
      )
  elif not os.path.isfile(text):  # (False for what is too long to be a file's name)
    if not any(mark in text for mark in '|({"'):
      near = difflib.get_close_matches(text.upper(), published(), n=1, cutoff=0.5)
      meant = f'did you mean {near[0]}? ' if near else ''
      raise InputError(f'{text!r}: no such folder or file, and no published cell: {meant}{", ".join(published())}')
    return Genotype.parse(text), False
  try:
    content = path.read_text(encoding='utf-8')
  except (OSError, UnicodeDecodeError) as error:
    raise InputError(f'{path} cannot be read as a genotype: {error}') from None
  try:
    tree = json.loads(content)
  except ValueError:
    return Genotype.parse(content), False
  if isinstance(tree, dict) and isinstance(tree.get('genotype'), str):
    return Genotype.parse(tree['genotype']), isinstance(tree.get('space'), dict) and bool(
      tree['space'].get('auxiliary_skip')
    )
  return Genotype.parse(content), False

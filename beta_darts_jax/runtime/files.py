"""Text and JSON files that are written as a whole."""

import json
import math
import os
import pathlib

from beta_darts_jax.errors import InputError


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes `text` atomically: a reader finds the old file or the new file, never a part of one.

  What UTF-8 cannot hold, such as bytes of the name of a file, becomes an escape.
  """
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')  # two processes may write a page at once
  with open(temporary, 'w', encoding='utf-8', errors='backslashreplace') as file:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
  os.replace(temporary, path)


def write_json(path: pathlib.Path, value, indent: int | None = 2) -> None:
  """Writes `value` atomically, as `write_text` does; NaN and infinity become null."""
  write_text(path, json.dumps(replace_non_finite(value), indent=indent, allow_nan=False) + '\n')


def replace_non_finite(value):
  """Replaces NaN and infinity by None in nested dicts and lists, since JSON has neither."""
  if isinstance(value, dict):
    return {name: replace_non_finite(item) for name, item in value.items()}
  if isinstance(value, list):
    return [replace_non_finite(item) for item in value]
  return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(file: pathlib.Path, remedy: str) -> dict:
  """Reads a JSON object. Raises InputError if the file is damaged; the message ends with `remedy`."""
  try:
    tree = json.loads(file.read_text())
  except ValueError:
    tree = None
  if not isinstance(tree, dict):
    raise InputError(f'{file} is damaged: {remedy}')
  return tree

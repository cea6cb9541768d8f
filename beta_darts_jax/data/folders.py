"""Folders of images: which parts and classes a folder has, and which files belong to them."""

import hashlib
import json
import os
import pathlib
from typing import NamedTuple

from beta_darts_jax.errors import InputError

# part → the names that a folder or an array of it may have, in lower case
PARTS = {
  'train': ('train', 'training'),
  'valid': ('val', 'valid', 'validation', 'dev'),
  'test': ('test', 'testing'),
}
_OF_SYSTEMS = ('__macosx', 'thumbs.db', 'desktop.ini')  # what macOS and Windows add to folders

FilesByClass = dict[str, list[pathlib.Path]]


def fingerprint(files_by_class: FilesByClass) -> str:
  """Returns the SHA-256 of the names and sizes of the files of a part."""
  files = [(name, file.name, file.stat().st_size) for name, files in files_by_class.items() for file in files]
  return hashlib.sha256(json.dumps(files).encode()).hexdigest()


class ImageFolder(NamedTuple):
  """The files of a folder of images, and a sentence about each thing that was left out."""

  parts: dict[str, FilesByClass]
  left_out: list[str]


def find_images(path: pathlib.Path) -> ImageFolder:
  """Finds the image files of a folder, by part and class.

  The folder has one sub-folder per class, or it has sub-folders for its parts (`PARTS`, in any case), each with one
  sub-folder per class. Hidden entries are ignored.

  Raises:
    InputError: the folder cannot be read or has another layout, or an entry is a link to nothing.
  """
  if not path.is_dir():
    raise InputError(f'{path}: no such folder')
  folders, files = _entries(path)
  parts = _find_parts(path, folders)
  left_out = _describe_files(path, files)
  if not parts:
    _refuse_parts_without_classes(path, folders)
    parts = {'train': path}
  else:
    others = [readable(str(folder)) for folder in folders if folder not in parts.values()]
    left_out += [f'{folder} is left out: it is not train, test or valid with class sub-folders' for folder in others]
    left_out += [text for folder in parts.values() for text in _describe_files(folder, _entries(folder)[1])]
  found = {part: _files_by_class(folder) for part, folder in parts.items()}
  classes = found['train']
  if not classes:
    raise InputError(f'{path}: has no class sub-folders')
  for part, files_by_class in found.items():
    if empty := [name for name, files in files_by_class.items() if not files]:
      raise InputError(f'{parts[part] / empty[0]}: has no images')
    if unknown := files_by_class.keys() - classes.keys():
      raise InputError(
        f'{parts[part] / min(unknown)}: no such class in {parts["train"]}: expected {", ".join(classes)}'
      )
  return ImageFolder(found, left_out)


def readable(text: str) -> str:
  """Returns a text that can be printed. The name of a file may be any bytes."""
  return os.fsencode(text).decode('utf-8', 'replace')


def part_of(name: str) -> str | None:
  """Returns the part that a name stands for, or None."""
  return next((part for part, names in PARTS.items() if name.lower() in names), None)


def _entries(folder: pathlib.Path) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
  """Returns the sub-folders and the files of a folder, by name, without hidden ones."""
  folders, files = [], []
  try:
    with os.scandir(folder) as entries:
      for entry in entries:
        if entry.name.startswith('.') or entry.name.lower() in _OF_SYSTEMS:
          continue
        if entry.is_dir():
          folders.append(folder / entry.name)
        elif entry.is_file():
          files.append(folder / entry.name)
        else:
          kind = 'a link to nothing' if entry.is_symlink() else 'neither a file nor a folder'
          raise InputError(f'{folder / entry.name}: is {kind}')
  except OSError as error:
    raise InputError(f'{error.filename}: cannot be read ({error.strerror})') from None  # the folder, or a link loop
  return sorted(folders), sorted(files)


def _find_parts(path, folders) -> dict[str, pathlib.Path]:
  """Returns {part: folder} of the folders that have the name of a part and sub-folders; {} if there are none."""
  parts: dict[str, pathlib.Path] = {}
  for folder in folders:
    part = part_of(folder.name)
    if not part or not _entries(folder)[0]:
      continue
    if part in parts:
      raise InputError(f'{path}: has {parts[part].name} and {folder.name}: expected one of them')
    parts[part] = folder
  if parts and 'train' not in parts:
    names = ' and '.join(folder.name for folder in parts.values())
    raise InputError(f'{path}: has {names} with class sub-folders, but no such train folder')
  return parts


def _refuse_parts_without_classes(path, folders) -> None:
  if folders and all(part_of(folder.name) for folder in folders):
    names = ' and '.join(folder.name for folder in folders)
    raise InputError(f'{path}: {names} without class sub-folders: expected for example {folders[0].name}/CLASS/IMAGE')


def _files_by_class(folder) -> FilesByClass:
  found = {}
  for class_folder in _entries(folder)[0]:
    nested, found[class_folder.name] = _entries(class_folder)
    if nested:
      raise InputError(
        f'{nested[0]}: is a folder inside a class: expected CLASS/IMAGE, or train/CLASS/IMAGE and test/CLASS/IMAGE'
      )
  return found


def _describe_files(folder, files) -> list[str]:
  """Says which files lie outside the class folders."""
  if not files:
    return []
  names = ', '.join(readable(file.name) for file in files[:3]) + (', …' if len(files) > 3 else '')
  folder = readable(str(folder))
  count = f'{len(files)} files of {folder} are' if len(files) > 1 else f'1 file of {folder} is'
  return [f'{count} left out, outside the class folders: {names}']

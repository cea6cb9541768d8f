"""The config files that come with the package."""

import pathlib

PACKAGE = pathlib.Path(__file__).parents[1]


def configs() -> dict[str, pathlib.Path]:
  """Returns {name: file} of the configs of the installed package, or of the clone."""
  folder = PACKAGE / 'configs' if (PACKAGE / 'configs').is_dir() else PACKAGE.parent / 'configs'
  files = sorted(folder.glob('*.py'))
  return {file.stem: file for file in files if 'def get_config(' in file.read_text(encoding='utf-8')}

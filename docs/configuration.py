"""Writes configuration.md from the tables of beta_darts_jax/config: python docs/configuration.py"""

import pathlib

from beta_darts_jax.config import DEFAULTS, documentation

TITLES = {'search': 'A search', 'retrain': 'A retraining'}
HEAD = """\
# Configuration

All values of a run. The defaults are those of the official protocol. `--config.KEY=VALUE` sets a value on the command
line; the files in [`configs/`](../configs) set some of them. This page is written by `python docs/configuration.py`.
"""


def page() -> str:
  """Returns the text of configuration.md."""
  return '\n'.join([HEAD, *map(section, DEFAULTS)])


def section(task: str) -> str:
  """Returns the table of the keys of a task."""
  rows = [f'| `{row.name}` | `{row.default}` | {row.meaning} |' for row in documentation(task)]
  return '\n'.join([f'## {TITLES[task]}', '', '| key | default | meaning |', '|---|---|---|', *rows]) + '\n'


if __name__ == '__main__':
  (pathlib.Path(__file__).parent / 'configuration.md').write_text(page())

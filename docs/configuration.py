"""Writes configuration.md from the tables of beta_darts_jax/config: python docs/configuration.py"""

import pathlib

from beta_darts_jax.config import DEFAULTS, keys_of

TITLES = {'search': 'A search', 'retrain': 'A retraining'}
HEAD = """\
# Configuration

This page lists all values of a run. The defaults of a search are the official protocol on NAS-Bench-201. The defaults
of a retraining are the protocol of DARTS on CIFAR-10. Each file in `configs/` changes some values.
`--config.KEY=VALUE` on the command line changes one value. [Concepts](concepts.md) explains the terms.
`python docs/configuration.py` writes this page.
"""


def page() -> str:
  """Returns the text of configuration.md."""
  return '\n'.join([HEAD, *map(section, DEFAULTS)])


def section(task: str) -> str:
  """Returns the table of the keys of a task."""
  rows = [f'| `{key.name}` | `{key.default!r}` | {key.description} |' for key in keys_of(task)]
  return '\n'.join([f'## {TITLES[task]}', '', '| key | default | meaning |', '|---|---|---|', *rows]) + '\n'


if __name__ == '__main__':
  (pathlib.Path(__file__).parent / 'configuration.md').write_text(page())

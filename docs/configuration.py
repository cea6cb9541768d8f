"""Writes configuration.md from the comments of beta_darts_jax/config.py: python docs/configuration.py"""

import pathlib

from beta_darts_jax.config import DEFAULTS, described

TITLES = {'search': 'A search', 'retrain': 'A retraining'}


def page() -> str:
  lines = [
    '# Configuration',
    '',
    'Every value of a run, with the default of the official protocol; `--config.KEY=VALUE` sets one. The files in',
    '[`configs/`](../configs) change some. Written by `python docs/configuration.py`.',
  ]
  for task in DEFAULTS:
    lines += ['', f'## {TITLES[task]}', '', '| key | default | meaning |', '|---|---|---|']
    lines += [f'| `{name}` | `{default}` | {meaning} |' for name, default, meaning in described(task)]
  return '\n'.join(lines) + '\n'


if __name__ == '__main__':
  (pathlib.Path(__file__).parent / 'configuration.md').write_text(page())

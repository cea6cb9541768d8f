"""Writes the table of differences to the official programs in docs/methods.md, and what differs between two forms.

  python docs/official_programs.py [DIFFERENCES.json …]

Without a file it runs the tests, which takes a few minutes. The environment variable OFFICIAL_DIFFERENCES names a
folder, in which the tests write such files.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import jax
import numpy as np

from beta_darts_jax.method.samplings import dirichlet, pathwise_dirichlet

ROOT = pathlib.Path(__file__).parents[1]
RIVALS = ROOT / 'tests' / 'golden' / 'rivals'
BEGIN, END = '<!-- begin: docs/official_programs.py {} -->\n', '<!-- end -->\n'


def measure(folder: str) -> None:
  """Runs the tests that compare with the official programs; they write their largest differences to `folder`."""
  tests = sorted(str(test) for test in (ROOT / 'tests' / 'method').glob('test_official_*.py'))
  environment = {**os.environ, 'OFFICIAL_DIFFERENCES': folder}
  subprocess.run([sys.executable, '-m', 'pytest', '-q', '-m', '', *tests], cwd=ROOT, env=environment, check=True)


def make_table(differences: dict[str, dict[str, float]]) -> str:
  """Returns the table in Markdown."""
  lines = ['| method | quantity | largest difference |\n', '|---|---|---|\n']
  for method, of_method in sorted(differences.items()):
    for quantity, largest in sorted(of_method.items()):
      lines.append(f'| {method} | {quantity} | {f"{largest:.0e}" if largest else "0"} |\n')
  return ''.join(lines)


def cosines_of_gdas() -> np.ndarray:
  """Returns the cosine between the two gradients of α in each recorded draw that has a gradient."""
  with np.load(RIVALS / 'gdas.npz') as file:
    first, second = (file[f'draws/alpha_grad{form}'].reshape(8, -1) for form in ('', '_chosen_only'))
  norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
  return np.sum(first * second, axis=1)[norms > 0] / norms[norms > 0]


def variances_of_drnas(draws: int = 4000) -> np.ndarray:
  """Returns, for each logit, the variance of its gradient with gamma variables divided by that of the pathwise form.

  The gradient is that of a random linear function of β.
  """
  with np.load(RIVALS / 'drnas_nas_bench_201.npz') as file:
    alphas = {'cell': file['alpha_before'].astype(np.float32)}
  weights = np.random.default_rng(0).standard_normal(alphas['cell'].shape, np.float32)
  keys = jax.random.split(jax.random.key(0), draws)

  def variance(sample):
    def value(alphas, key):
      return (weights * sample(alphas, key, None)['cell']).sum()

    return np.var(jax.jit(jax.vmap(jax.grad(value), (None, 0)))(alphas, keys)['cell'], axis=0)

  return variance(dirichlet) / variance(pathwise_dirichlet)


def decisions_of_darts_pt() -> str:
  """Returns how many edges get another operation if α is fixed between the decisions."""
  with np.load(RIVALS / 'darts_pt.npz') as file:
    differs = file['genotype'] != file['frozen/genotype']
  return f'{differs.sum()} of {differs.size}'


def make_table_of_forms() -> str:
  """Returns a table in Markdown: what changes where a method has two forms."""

  def spread(values):
    return f'{np.median(values):.2f} ({values.min():.2f} … {values.max():.2f})'

  rows = [
    ('method', 'two forms', 'quantity', 'median (least … most)'),
    ('---',) * 4,
    (
      'GDAS', 'with and without `relaxation.undrawn_gradient`', 'cosine of the gradients of α in the recorded draws',
      spread(cosines_of_gdas()),
    ),
    (
      'DrNAS', '`dirichlet` and `pathwise_dirichlet`',
      'ratio of the variances of the gradient of a linear function of β, 30 logits, 4,000 draws',
      spread(variances_of_drnas()),
    ),
    ('DARTS-PT', 'α trained or fixed between the decisions', 'decisions that differ', decisions_of_darts_pt()),
  ]  # fmt: skip
  return ''.join(f'| {" | ".join(row)} |\n' for row in rows)


def replace(page: str, part: str, text: str) -> str:
  """Returns the page with a new text between the marks of a part."""
  before, rest = page.split(BEGIN.format(part))
  return before + BEGIN.format(part) + text + END + rest.split(END, 1)[1]


def main(paths: list[str]) -> None:
  differences: dict[str, dict[str, float]] = {}
  with tempfile.TemporaryDirectory() as folder:
    if not paths:
      measure(folder)
    for path in map(pathlib.Path, paths or pathlib.Path(folder).glob('*.json')):
      for method, of_method in json.loads(path.read_text()).items():
        largest = differences.setdefault(method, {})
        largest |= {name: max(value, largest.get(name, 0.0)) for name, value in of_method.items()}
  page = ROOT / 'docs' / 'methods.md'
  text = replace(page.read_text(), 'differences', make_table(differences))
  page.write_text(replace(text, 'forms', make_table_of_forms()))


if __name__ == '__main__':
  main(sys.argv[1:])

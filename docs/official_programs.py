"""Writes the table of differences to the official programs in docs/methods.md, from what the tests measure.

  python docs/official_programs.py [DIFFERENCES.json …]

Without a file it runs the tests, which takes a few minutes. The environment variable OFFICIAL_DIFFERENCES makes the
tests write such a file.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]
BEGIN, END = '<!-- begin: docs/official_programs.py -->\n', '<!-- end -->\n'


def measure(path: str) -> None:
  """Runs the tests that compare with the official programs; they write their largest differences to `path`."""
  tests = sorted(str(test) for test in (ROOT / 'tests' / 'method').glob('test_official_*.py'))
  environment = {**os.environ, 'OFFICIAL_DIFFERENCES': path}
  subprocess.run([sys.executable, '-m', 'pytest', '-q', '-m', '', *tests], cwd=ROOT, env=environment, check=True)


def make_table(differences: dict[str, dict[str, float]]) -> str:
  """Returns the table in Markdown."""
  lines = ['| method | quantity | largest difference |\n', '|---|---|---|\n']
  for method, of_method in sorted(differences.items()):
    for quantity, largest in sorted(of_method.items()):
      lines.append(f'| {method} | {quantity} | {f"{largest:.0e}" if largest else "0"} |\n')
  return ''.join(lines)


def main(paths: list[str]) -> None:
  with tempfile.TemporaryDirectory() as folder:
    if not paths:
      paths = [f'{folder}/differences.json']
      measure(paths[0])
    differences: dict[str, dict[str, float]] = {}
    for path in paths:
      for method, of_method in json.loads(pathlib.Path(path).read_text()).items():
        largest = differences.setdefault(method, {})
        largest |= {name: max(value, largest.get(name, 0.0)) for name, value in of_method.items()}
  page = ROOT / 'docs' / 'methods.md'
  before, rest = page.read_text().split(BEGIN)
  page.write_text(before + BEGIN + make_table(differences) + END + rest.split(END, 1)[1])


if __name__ == '__main__':
  main(sys.argv[1:])

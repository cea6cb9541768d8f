"""Keeps a run, finished or not, as an arm of a study.

  python -m studies.keep RUN STUDY/ARM

RUN is the folder of a search. The arm must be one of the study's closed arms, because `make study` does not run it. Run
it from the project's root. A kept arm of the same name is replaced.
"""

import argparse
import pathlib
import sys

from beta_darts_jax.errors import InputError
from beta_darts_jax.report.run_folder import read_run_folder
from beta_darts_jax.runtime.files import write_json
from beta_darts_jax.runtime.workdir import KEPT
from studies.records import record_path
from studies.study import load_study


def keep_run(folder: pathlib.Path, place: str, evidence: pathlib.Path) -> pathlib.Path:
  """Writes the file of the arm 'STUDY/ARM' from the folder of a search; returns its path.

  Raises:
    InputError: the arm is not a closed arm of the study, or the folder is not that of a search with a finished epoch.
  """
  name, _, arm = place.partition('/')
  closed = load_study(name).closed_arms
  if arm not in closed:
    raise InputError(
      f'{place}: expected STUDY/ARM with one of the closed arms of {name}: {", ".join(closed) or "none"}'
    )
  run = read_run_folder(folder)
  if not (run.is_search and run.rows):
    raise InputError(f'{folder}: expected a search with one finished epoch or more')
  environment = {name: value for name, value in run.environment.items() if name not in KEPT}
  result = run.result or {'dataset': run.config['data']['source'], 'environment': environment}
  config = {name: value for name, value in run.config.items() if name != 'parallel'}
  path = record_path(evidence, place)
  path.parent.mkdir(parents=True, exist_ok=True)
  write_json(path, {'config': config, 'result': result, 'rows': run.rows}, indent=None)
  return path


def main(argv: list[str] | None = None) -> int:
  """Runs the command line; returns the exit status."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('run', metavar='RUN', type=pathlib.Path, help='the folder of a search')
  parser.add_argument('place', metavar='STUDY/ARM', help='the closed arm')
  parser.add_argument('--evidence', type=pathlib.Path, default=pathlib.Path('docs/evidence'), help='what is kept')
  options = parser.parse_args(argv)
  try:
    print(keep_run(options.run, options.place, options.evidence))
  except InputError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  return 0


if __name__ == '__main__':
  sys.exit(main())

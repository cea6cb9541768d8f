"""Runs the arms of a study one after the other and writes its tables.

  python -m studies.run NAME [--arms ARM…] [--seeds SEED…] [--group N] [--tables-only]
                             [--runs DIR] [--evidence DIR] [--pages FILE…]

NAME is a study of the folder studies/, or the path of a Python file with get_study(). Run it from
the project's root. An interrupted study continues with the same command. EVIDENCE/STUDY/runs keeps the config, the
environment and the rows of metrics.jsonl of every arm. Tables and figures are made from these files alone, so
--tables-only runs no search. Without --group all seeds of an arm run as one program. With --group N they run and are
kept N at a time. Arms can run on several cores or machines. --seeds chooses seeds, so those of one arm can, too. Needs
pip install '.[studies]'.

Exit status: 0 finished, 1 a loss became non-finite, 2 wrong input, 75 stopped before the end.
"""

import argparse
import contextlib
import os
import pathlib
import re
import sys
from collections.abc import Collection, Iterable

import pandas as pd
from ml_collections import ConfigDict

import beta_darts_jax as bd
from beta_darts_jax.errors import InputError, NonFiniteLoss, Stopped
from beta_darts_jax.report.run_folder import read_run_folder
from beta_darts_jax.runtime.logs import TimedLines
from beta_darts_jax.runtime.workdir import KEPT
from beta_darts_jax.spaces.nas_bench_201 import NasBench201, covers, find_table
from beta_darts_jax.spaces.space import make_space
from studies import tables
from studies.records import (
  Record,
  group_name,
  keep,
  kept_files,
  kept_seeds,
  read_records,
  record_path,
  seeds_of,
  with_seeds,
)
from studies.study import Study, known_studies, load_study

STOPPED = 75  # EX_TEMPFAIL of sysexits.h: try again later
END = '<!-- end of study -->'
WHOLE_PAGE = (
  'all measures, seeds, epochs, equivalence, baselines, figure, provenance'  # the parts of a study's own page
)
LEGEND = (
  'Mean ± standard deviation over seeds; no ± if all are equal. p: two-sided sign-flip test over paired seeds, exact '
  'for up to 20 pairs. Seconds: of one search; if several ran as one program, its seconds divided by their number.'
)


def run_arms(
  study: Study,
  runs: pathlib.Path,
  evidence: pathlib.Path,
  arms: Collection[str] = (),
  seeds: Collection[int] = (),
  group: int | None = None,
) -> bool:
  """Runs what is not kept yet; continues what was interrupted.

  Args:
    study: the study.
    runs: folder of the searches.
    evidence: folder of what is kept.
    arms: names of the arms to run; all of them if empty.
    seeds: the seeds to run; all of an arm if empty.
    group: the largest number of seeds that run, and are kept, together; all of an arm if None.

  Returns:
    True, or False if a signal stopped a search.

  Raises:
    InputError: an arm was kept with other settings.
  """
  chosen = {arm: config for arm, config in study.arms.items() if arm in arms or not arms}
  kept = {arm: kept_seeds(evidence, f'{study.name}/{arm}', config) for arm, config in chosen.items()}
  for arm, config in chosen.items():
    wanted = [seed for seed in seeds_of(config) if seed in seeds or not seeds]
    missing = [seed for seed in wanted if seed not in kept[arm]]
    if not wanted:
      print(f'{arm}: has the seeds {seeds_of(config)[0]} to {seeds_of(config)[-1]}, none of them chosen')
    elif not missing:
      print(f'{arm}: {kept_in(evidence, f"{study.name}/{arm}")}')
    for part in groups_of(missing, group or len(missing)):
      if not run_group(study.name, arm, config, part, runs, evidence):
        return False
  return True


def groups_of(seeds: Iterable[int], size: int) -> list[range]:
  """Returns the seeds in groups of consecutive ones, of at most `size` seeds each.

  Example:
    >>> groups_of([3, 4, 5, 7], 2)
    [range(3, 5), range(5, 6), range(7, 8)]
  """
  groups: list[range] = []
  for seed in seeds:
    if groups and seed == groups[-1].stop and len(groups[-1]) < size:
      groups[-1] = range(groups[-1].start, seed + 1)
    else:
      groups.append(range(seed, seed + 1))
  return groups


def run_group(
  study: str, arm: str, config: ConfigDict, seeds: range, runs: pathlib.Path, evidence: pathlib.Path
) -> bool:
  """Runs some seeds of an arm as one program and keeps them. Returns False if a signal stopped it.

  A group whose searches all diverged is kept, too. If it is the whole arm, NonFiniteLoss is raised instead.
  """
  group = None if seeds == seeds_of(config) else seeds
  folder = runs / study / group_name(arm, group)
  print(f'{arm}: {folder}', flush=True)
  part = with_seeds(config, seeds)
  try:
    bd.run_search(part, folder)
  except Stopped:
    return False
  except NonFiniteLoss as error:
    if group is None:
      raise
    print(f'{arm}: {error}', flush=True)
  done = read_run_folder(folder)
  result, rows = done.result, done.rows
  if result is None:  # all of them diverged
    result = {'dataset': done.dataset, 'environment': {k: v for k, v in done.environment.items() if k not in KEPT}}
    last = {'epoch': len(rows) // len(seeds), 'genotype': None, 'seconds': 0.0}
    rows = [*rows, *({'seed': seed} | last for seed in seeds)]
  keep(record_path(evidence, f'{study}/{arm}', group), part, result, rows)
  return True


def kept_in(evidence: pathlib.Path, place: str) -> str:
  """Returns 'kept in FILE, FILE', or that nothing is kept, of an arm given as 'STUDY/ARM'."""
  files = kept_files(evidence, place)
  return f'kept in {", ".join(map(str, files))}' if files else f'not in {evidence}'


# ---- pages ----


def write_pages(
  study: Study, evidence: pathlib.Path, table: NasBench201 | None, pages: tuple[pathlib.Path, ...] = ()
) -> None:
  """Writes searches.csv, percentile.svg and README.md of a study from its kept runs, and fills the marks of `pages`.

  Raises:
    InputError: a mark is wrong, see `fill_marks`; or the arms need the benchmark and `table` is None.
  """
  records, folder = read_records(study, evidence), evidence / study.name
  report_missing(study, records, evidence)
  if not records:
    return
  first = next(iter(records.values()))
  if not covers(make_space(**first.config['space']), first.dataset):
    table = None
  elif table is None:
    raise InputError(missing_table(study))
  folder.mkdir(parents=True, exist_ok=True)
  searches = tables.searches_table(records, table)
  searches.to_csv(folder / 'searches.csv', index=False, lineterminator='\n')
  if table:
    tables.draw_percentiles(records, table, folder / 'percentile.svg')
  parts = make_parts(study, records, searches) | {
    'baselines': tables.baselines_table(table, first.dataset) if table else '',
    'epochs': tables.epochs_table(records, table) if table else '',
    'claims': tables.claims_table(records, searches) if table else '',
    'figure': '',  # its link depends on the page
  }
  page = folder / 'README.md'
  if not page.is_file():
    page.write_text(f'# {study.question}\n\n<!-- study {study.name}: {WHOLE_PAGE} -->\n{END}\n', encoding='utf-8')
  for path in (page, *pages):
    if table:
      figure = os.path.relpath(folder / 'percentile.svg', path.parent)
      parts['figure'] = f'![Percentile of the cell by epoch]({figure})'
    path.write_text(fill_marks(path.read_text(encoding='utf-8'), study.name, parts, path), encoding='utf-8')
  print(f'\n{parts["summary"]}\n\n{folder}')


def make_parts(study: Study, records: dict[str, Record], searches: pd.DataFrame) -> dict[str, str]:
  """Returns {name: Markdown} of the parts that need no benchmark."""
  compared, unfinished = tables.comparisons(study, searches), tables.unfinished(study, records)
  return {
    'summary': '\n\n'.join(filter(None, [unfinished, tables.summary_table(study, searches, compared)])),
    'all measures': '\n\n'.join(
      filter(None, [unfinished, tables.summary_table(study, searches, compared, compact=False)])
    ),
    'seeds': tables.seeds_table(study, searches),
    'equivalence': tables.equivalence_table(study, records),
    'provenance': f'{tables.provenance(records)}. {LEGEND}',
  }


def report_missing(study: Study, records: dict[str, Record], evidence: pathlib.Path) -> None:
  """Prints which borrowed and closed arms are not kept, and where they would come from."""
  for arm, place in study.borrowed.items():
    if arm not in records:
      print(f'{arm}: not in {evidence} yet; it comes from {place}')
  for arm, commit in study.closed_arms.items():
    print(f'{arm}: {kept_in(evidence, f"{study.name}/{arm}")}; run by commit {commit}, this version cannot run it')


def missing_table(study: Study) -> str:
  return f'the tables of {study.name} need the NAS-Bench-201 table: set NAS_BENCH_201_TABLE to its CSV file'


def fill_marks(text: str, study: str, parts: dict[str, str], path: pathlib.Path | str) -> str:
  """Returns `text` with the parts between `<!-- study STUDY: PART, PART -->` and `<!-- end of study -->` replaced.

  Raises:
    InputError: a mark names an unknown part or does not end. The message names `path`.
  """

  def filled(match):
    wanted = match[2].split(', ')
    if unknown := [part for part in wanted if part not in parts]:
      raise InputError(f'{path}: {match[1]}: unknown part {", ".join(unknown)}; expected {", ".join(parts)}')
    return '\n\n'.join([match[1], *(parts[part] for part in wanted if parts[part]), END])

  beginning = rf'(<!-- study {re.escape(study)}: ([^\n]*) -->)'
  filled_text, count = re.subn(rf'{beginning}(?:(?!<!-- study ).)*?{END}', filled, text, flags=re.DOTALL)
  if count != len(re.findall(beginning, text)):
    raise InputError(f'{path}: a mark <!-- study {study}: … --> has no {END}')
  return filled_text


# ---- command line ----


def run(options: argparse.Namespace) -> bool:
  """Runs the command; returns False if a signal stopped a search."""
  study = load_study(options.study)
  if missing := [str(page) for page in options.pages if not page.is_file()]:
    raise InputError(f'--pages: no such file: {", ".join(missing)}')
  if unknown := [arm for arm in options.arms if arm not in study.arms]:
    raise InputError(f'--arms: unknown {", ".join(unknown)}; expected some of {", ".join(study.arms) or "none"}')
  known = sorted({seed for arm in study.arms.values() for seed in seeds_of(arm)})
  if unknown := [str(seed) for seed in options.seeds if seed not in known]:
    raise InputError(f'--seeds: unknown {", ".join(unknown)}; expected some of {", ".join(map(str, known)) or "none"}')
  if options.group is not None and options.group < 1:
    raise InputError(f'--group: expected at least 1, got {options.group}')
  table = find_table()
  if table is None and any(covers(make_space(**arm.space), arm.data.source) for arm in study.arms.values()):
    raise InputError(missing_table(study))  # before days of computing
  finished = True
  if not options.tables_only:
    bd.set_up(cluster='none')
    stdout = sys.stdout if sys.stdout.isatty() else TimedLines(sys.stdout)
    with contextlib.redirect_stdout(stdout):
      finished = run_arms(study, options.runs, options.evidence, options.arms, options.seeds, options.group)
  write_pages(study, options.evidence, table, tuple(options.pages))
  return finished


def main(argv: list[str] | None = None) -> int:
  """Runs the command line; returns the exit status."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  closed = [name for name in known_studies() if not load_study(name).arms]
  names = ', '.join(name for name in known_studies() if name not in closed)
  parser.add_argument(
    'study', metavar='NAME', help=f'{names}, or a Python file. Only with --tables-only: {", ".join(closed)}'
  )
  parser.add_argument('--arms', metavar='ARM', nargs='+', default=[], help='run only these arms')
  parser.add_argument('--seeds', metavar='SEED', type=int, nargs='+', default=[], help='run only these seeds')
  parser.add_argument('--group', metavar='N', type=int, help='run and keep the seeds of an arm N at a time')
  parser.add_argument('--runs', type=pathlib.Path, default=pathlib.Path('runs/studies'), help='folders of the searches')
  kept = pathlib.Path('docs/evidence')
  parser.add_argument('--evidence', type=pathlib.Path, default=kept, help='folder of the kept results')
  parser.add_argument('--pages', type=pathlib.Path, nargs='*', default=[], help='Markdown files with marks to fill')
  parser.add_argument('--tables-only', action='store_true', help='write tables from the kept runs, run no search')
  try:
    finished = run(parser.parse_args(argv))
  except (InputError, NonFiniteLoss) as error:
    print(f'error: {error}', file=sys.stderr)
    return 1 if isinstance(error, NonFiniteLoss) else 2
  if not finished:
    print('stopped; the same command continues', file=sys.stderr)
  return 0 if finished else STOPPED


if __name__ == '__main__':
  sys.exit(main())

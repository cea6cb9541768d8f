"""Studies: a question, its arms (settings) and seeds, run one after the other, and what they came to.

  python -m studies.run studies/NAME.py [--runs DIR] [--evidence DIR] [--pages FILE…]
      [--cpu-devices N] [--tables-only]

An arm is a population of searches over seeds; arms are paired by seed. Interrupted studies continue with the same
command. Of every arm the config, the environment and the rows of metrics.jsonl are kept in EVIDENCE/NAME/runs; tables
and figures are made from those alone, so `--tables-only` needs no run. A study may borrow arms that another one keeps.
Exit status as of beta_darts_jax.main, and 75 of a study that was stopped before its end.
"""

import argparse
import csv
import json
import math
import os
import pathlib
import re
import runpy
import sys

import numpy as np
from absl import logging

from beta_darts_jax.config.check import check
from beta_darts_jax.errors import InputError
from beta_darts_jax.runtime import devices as parallel
from beta_darts_jax.runtime.workdir import read_result, write_json
from beta_darts_jax.search.population import mean_and_spread
from beta_darts_jax.spaces.nas_bench_201 import DATASETS, HOW_TO_GET, NasBench201, covers, find_table
from beta_darts_jax.spaces.space import make_space
from studies import measures as evidence

STOPPED = 75  # "try again later" of sysexits.h


def load(path) -> dict:
  """The study of a file with get_study(): name, question, arms {name: config}, reference, primary (a measure).

  The reference is the arm that the others are held against; or, for each, {arm: its reference}.

  What may be left out: `borrowed` {name: 'STUDY/ARM'}, arms that another study keeps; `equivalence` {'pairs':
  [(arm, arm), …], 'margin': in standard deviations}, whose final α are to be distributed alike.

  Raises:
    InputError: no such file, or no study in it.
  """
  if not os.path.isfile(path):
    raise InputError(f'{path}: no such file; configs/studies has those there are')
  study = runpy.run_path(str(path)).get('get_study', dict)()
  study = {'borrowed': {}, 'equivalence': {'pairs': [], 'margin': 0.0}} | study
  complete = set(study) == {'question', 'arms', 'reference', 'primary', 'borrowed', 'equivalence'}
  if not complete or not set(references(study).values()) <= {*study['arms'], *study['borrowed']}:
    raise InputError(
      f'{path}: get_study() gives question, arms, reference (an arm) and primary; besides borrowed and equivalence'
    )
  return study | {'name': pathlib.Path(path).stem, 'arms': {arm: check(c) for arm, c in study['arms'].items()}}


def references(study: dict) -> dict[str, str]:
  """{arm: the arm that it is held against}, without those that are a reference only."""
  given = study['reference']
  return given if isinstance(given, dict) else {a: given for a in (*study['borrowed'], *study['arms']) if a != given}


def run_arms(study: dict, runs: pathlib.Path, kept: pathlib.Path) -> bool:
  """Runs, or goes on with, what is not in the folder `kept` yet; whether all arms are finished."""
  from beta_darts_jax import main

  for arm, config in study['arms'].items():
    record, folder = kept / f'{arm}.json', runs / study['name'] / arm
    if record.is_file() and _agrees(json.loads(record.read_text())['config'], plain(config)):
      print(f'{arm}: kept in {record}')
      continue
    print(f'{arm}: {folder}', flush=True)
    main.run_search(config, folder)
    if (result := read_result(folder)) is None:
      return False
    rows = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    record.parent.mkdir(parents=True, exist_ok=True)
    write_json(record, {'config': plain(config), 'result': result, 'rows': rows}, indent=None)
  return True


def plain(config):
  """A config as JSON gives it back, without where it computes."""
  tree = json.loads(json.dumps(config.to_dict()))
  return {name: value for name, value in tree.items() if name != 'parallel'}


def _agrees(kept, config):
  """Whether a kept config says nothing else; it may lack values that came later, whose defaults are what was."""
  if isinstance(kept, dict) and isinstance(config, dict):
    return all(name in config and _agrees(value, config[name]) for name, value in kept.items())
  return kept == config


def records(study: dict, evidence_folder: pathlib.Path) -> dict[str, dict]:
  """{arm: what is kept of it} of the arms that are kept, borrowed ones first."""
  places = study['borrowed'] | {arm: f'{study["name"]}/{arm}' for arm in study['arms']}
  found = {}
  for arm, place in places.items():
    name, _, of_study = place.partition('/')
    path = evidence_folder / name / 'runs' / f'{of_study}.json'
    if path.is_file():
      found[arm] = json.loads(path.read_text())
  return found


def histories(record: dict) -> dict[int, list[dict]]:
  """{seed: rows of that search} of a kept arm."""
  found: dict[int, list[dict]] = {}
  for row in record['rows']:
    found.setdefault(row.get('seed', record['config']['search']['seed']), []).append(row)
  return found


# ---- tables ----

COMPACT = (*(f'{dataset}_test' for dataset in DATASETS), 'collapsed', 'parameter_free', 'flips', 'seconds')


def analyse(kept: dict[str, dict], table: NasBench201 | None) -> dict[str, dict[int, dict]]:
  """{arm: {seed: measures}} of `records`; seconds of a population are shared by its members."""
  found: dict[str, dict[int, dict]] = {}
  for arm, record in kept.items():
    searches = histories(record)
    found[arm] = {seed: evidence.measures(rows, table) for seed, rows in searches.items()}
    if 'member' in record['rows'][0]:
      for measured in found[arm].values():
        measured['seconds'] = round(measured['seconds'] / len(searches), 1)
  return found


def write_csv(path: pathlib.Path, found: dict) -> None:
  """A line for every search."""
  names = list(next(iter(next(iter(found.values())).values())))
  with open(path, 'w', newline='') as file:
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow(['arm', 'seed', *names])
    for arm, of_seeds in found.items():
      writer.writerows([arm, seed, *map(of_seeds[seed].get, names)] for seed in sorted(of_seeds))


def summary_table(study: dict, found: dict, compact: bool = True) -> str:
  """Markdown: mean ± standard deviation of each arm over its seeds, and the paired test against its reference."""
  primary = study['primary']
  numbers = [name for name, value in next(iter(next(iter(found.values())).values())).items() if _is_number(value)]
  if compact:
    numbers = [name for name in dict.fromkeys((primary, *COMPACT)) if name in numbers]
  lines = [
    f'| arm | n | {" | ".join(numbers)} | {primary}: difference | to | p |',
    '|' + '---|' * (len(numbers) + 5),
  ]
  for arm, of_seeds in found.items():
    cells = [_spread(measured.get(name) for measured in of_seeds.values()) for name in numbers]
    name = references(study).get(arm)
    reference = found.get(name, {})
    pairs = [(of_seeds[seed][primary], reference[seed][primary]) for seed in sorted(set(of_seeds) & set(reference))]
    differences = [a - b for a, b in pairs if None not in (a, b)]
    tested = [_spread(differences), name, _p(evidence.paired_p(differences))] if differences else [''] * 3
    lines.append(f'| {" | ".join([arm, str(len(of_seeds)), *cells, *tested])} |')
  return '\n'.join(lines)


def seeds_table(study: dict, found: dict) -> str:
  """Markdown: every search's cell and primary measure."""
  lines = [f'| arm | seed | {study["primary"]} | cell |', '|---|---|---|---|']
  for arm, of_seeds in found.items():
    for seed in sorted(of_seeds):
      cell = (of_seeds[seed]['genotype'] or 'diverged').replace('|', '\\|')
      lines.append(f'| {arm} | {seed} | {_figure(of_seeds[seed][study["primary"]])} | `{cell}` |')
  return '\n'.join(lines)


def baselines_table(table: NasBench201, dataset: str) -> str:
  """Markdown: what needs no search."""
  rows = evidence.baselines(table, dataset)
  names = list(next(iter(rows.values())))
  lines = [f'| baseline | {" | ".join(names)} |', '|' + '---|' * (len(names) + 1)]
  lines += [f'| {name} | {" | ".join(_figure(row[n]) for n in names)} |' for name, row in rows.items()]
  return '\n'.join(lines)


def equivalence_table(study: dict, kept: dict[str, dict]) -> str:
  """Markdown: whether arms end with the same α; '' where the study does not ask or an arm is missing."""
  margin = study['equivalence']['margin']
  lines = [
    '| arms | n | difference of mean α, root mean square (σ) | 95 % below | margin | equivalent | permutation p |',
    '|' + '---|' * 7,
  ]
  for pair in study['equivalence']['pairs']:
    if set(pair) <= set(kept):
      a, b = (np.array([evidence.logits(rows[-1]) for rows in histories(kept[arm]).values()]) for arm in pair)
      gap, bound = evidence.gap_of_means(a, b)
      p = _p(evidence.energy_p(a, b))
      cells = [' and '.join(pair), f'{len(a)}, {len(b)}', f'{gap:.2f}', f'{bound:.2f}', f'{margin:.2f}']
      lines.append(f'| {" | ".join(cells)} | {"yes" if bound < margin else "not shown"} | {p} |')
  return '\n'.join(lines) if len(lines) > 2 else ''


def origin(kept: dict[str, dict]) -> str:
  """Where the arms ran, and on which versions; those that ran on the same together."""
  found: dict[str, list[str]] = {}
  for arm, record in kept.items():
    found.setdefault(', '.join(_leaves(record['result']['environment'])), []).append(arm)
  return '; '.join(where if len(found) == 1 else f'{" and ".join(arms)}: {where}' for where, arms in found.items())


def _is_number(value):
  return value is None or isinstance(value, (int, float))


def _figure(value):
  return '' if value is None else f'{value:.2f}' if abs(value) < 1000 else f'{value:.0f}'


def _p(p):
  return f'{p:.3f}' if p >= 0.001 else f'{p:.0e}'


def _spread(values):
  spread = mean_and_spread(values)
  if spread['mean'] is None:
    return ''
  return _figure(spread['mean']) + (f' ± {_figure(spread["std"])}' if (spread['std'] or 0) > 1e-9 else '')


# ---- figures ----


def draw(kept: dict[str, dict], table: NasBench201, path: pathlib.Path) -> None:
  """Percentile of each epoch's cell: a line a search, the mean of each arm thick."""
  import matplotlib

  matplotlib.use('svg')
  matplotlib.rcParams['svg.hashsalt'] = 'study'  # the same file from the same runs
  from matplotlib import pyplot

  figure, axes = pyplot.subplots(figsize=(7, 4), layout='constrained')
  for color, (arm, record) in zip(matplotlib.color_sequences['tab10'], kept.items(), strict=False):
    curves = [
      [evidence.percentile(table, row['genotype']) if row['genotype'] else math.nan for row in history]
      for history in histories(record).values()
    ]
    for curve in curves:
      axes.plot(range(1, len(curve) + 1), curve, color=color, alpha=0.3, linewidth=1)
    means = [sum(values) / len(values) for values in zip(*curves, strict=False)]
    axes.plot(range(1, len(means) + 1), means, color=color, label=arm)
  axes.axhline(50, color='gray', linestyle=':', linewidth=1, label='random cell')
  axes.set(xlabel='epoch', ylabel='percentile of the cell, mean of three test columns', ylim=(0, 101))
  axes.legend()
  figure.savefig(path, metadata={'Date': None})
  pyplot.close(figure)


# ---- command line ----


def write_up(study: dict, evidence_folder: pathlib.Path, table: NasBench201 | None, pages=()) -> None:
  """Tables and figures of what is kept: NAME/searches.csv, NAME/percentile.svg, NAME/README.md, and `pages`.

  In NAME/README.md and the pages, what stands between `<!-- study NAME: PARTS -->` and `<!-- end of study -->` is
  replaced by those of the parts summary, seeds, equivalence, baselines, figure and origin.

  Raises:
    InputError: such a mark names an unknown part or does not end; or `table` is None and the benchmark knows the data.
  """
  kept, folder = records(study, evidence_folder), evidence_folder / study['name']
  for arm, place in study['borrowed'].items():
    if arm not in kept:
      print(f'{arm}: not in {evidence_folder} yet; it is to come from {place}')
  if not kept:
    return
  folder.mkdir(parents=True, exist_ok=True)
  config, result = (next(iter(kept.values()))[part] for part in ('config', 'result'))
  if not covers(make_space(**config['space']), result['dataset']):
    table = None
  elif table is None:
    raise InputError(_needs_table(study))
  found = analyse(kept, table)
  write_csv(folder / 'searches.csv', found)
  parts = {
    'summary': summary_table(study, found),
    'all measures': summary_table(study, found, compact=False),
    'seeds': seeds_table(study, found),
    'equivalence': equivalence_table(study, kept),
    'baselines': baselines_table(table, result['dataset']) if table else '',
    'figure': '',
    'origin': f'{origin(kept)}. Mean ± standard deviation over seeds (no ± where all are '
    'equal); p of the exact sign-flip test over paired seeds; seconds are those of a search, of an arm in one program '
    'its share.',
  }
  if table:
    draw(kept, table, folder / 'percentile.svg')
  page = folder / 'README.md'
  if not page.is_file():
    named = ', '.join(part for part in parts if part != 'summary')
    page.write_text(f'# {study["question"]}\n\n<!-- study {study["name"]}: {named} -->\n{_END}\n', encoding='utf-8')
  for path in (page, *pages):
    if table:
      drawing = os.path.relpath(folder / 'percentile.svg', path.parent)
      parts['figure'] = f'![Percentile of the cell by epoch]({drawing})'
    path.write_text(fill(path.read_text(encoding='utf-8'), study['name'], parts, path), encoding='utf-8')
  print(f'\n{parts["summary"]}\n\n{folder}')


_END = '<!-- end of study -->'


def _needs_table(study):
  return f'the tables of {study["name"]} need the benchmark. {HOW_TO_GET.replace(" or config.benchmark.table", "")}'


def fill(text: str, name: str, parts: dict[str, str], path) -> str:
  """`text` with the parts that its marks of the study `name` ask for; `path` is for messages. Raises InputError."""

  def filled(match):
    wanted = match[2].split(', ')
    if unknown := set(wanted) - set(parts):
      raise InputError(f'{path}: {match[1]} asks for {", ".join(unknown)}; there are {", ".join(parts)}')
    return '\n\n'.join([match[1], *(parts[part] for part in wanted if parts[part]), _END])

  beginning = rf'(<!-- study {re.escape(name)}: ([^\n]*) -->)'
  filled_text, count = re.subn(rf'{beginning}(?:(?!<!-- study ).)*?{_END}', filled, text, flags=re.DOTALL)
  if count != len(re.findall(beginning, text)):
    raise InputError(f'{path}: a mark <!-- study {name}: … --> has no {_END}')
  return filled_text


def _leaves(tree):
  return [x for name, v in tree.items() for x in (_leaves(v) if isinstance(v, dict) else [f'{name} {v}'])]


def main(argv=None) -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('study', help='a file with get_study()')
  parser.add_argument('--runs', type=pathlib.Path, default=pathlib.Path('runs/studies'))
  parser.add_argument('--evidence', type=pathlib.Path, default=pathlib.Path('docs/evidence'))
  parser.add_argument('--cpu-devices', type=int, default=0, help='as config.parallel.cpu_devices')
  parser.add_argument('--pages', type=pathlib.Path, nargs='*', default=[], help='Markdown with marks for the tables')
  parser.add_argument('--tables-only', action='store_true', help='from the runs that are kept')
  options = parser.parse_args(argv)
  logging.set_verbosity(logging.WARNING)
  from beta_darts_jax.main import open_streams, told

  open_streams()
  with told('the same command goes on'):
    study = load(options.study)
    if missing := [str(page) for page in options.pages if not page.is_file()]:
      raise InputError(f'--pages: no such file: {", ".join(missing)}')
    finished, table = True, find_table('')
    arms = study['arms'].values()
    if table is None and any(covers(make_space(**arm.space), arm.data.source) for arm in arms):
      raise InputError(_needs_table(study))  # before days of computing
    if not options.tables_only:
      parallel.set_up(options.cpu_devices, cluster='none')
      finished = run_arms(study, options.runs, options.evidence / study['name'] / 'runs')
    write_up(study, options.evidence, table, options.pages)
    if not finished:
      print('stopped; the same command goes on', file=sys.stderr)
      sys.exit(STOPPED)


if __name__ == '__main__':
  main()

"""The tables and the figure of a study, made from its kept runs."""

import itertools
import pathlib

import numpy as np
import pandas as pd
from flax.traverse_util import flatten_dict

from beta_darts_jax.spaces.genotype import Genotype
from beta_darts_jax.spaces.nas_bench_201 import NasBench201
from studies.measures import (
  PUBLISHED,
  PUBLISHED_ACCURACIES,
  TESTS,
  baselines,
  distance,
  measure_names,
  measures,
  percentile,
)
from studies.records import Record, seeds_of
from studies.statistics import centred_alphas, energy_p, gap_of_means, paired_p
from studies.study import Study

COMPACT = (*TESTS, 'collapsed', 'parameter_free', 'flips', 'seconds')


def searches_table(records: dict[str, Record], table: NasBench201 | None) -> pd.DataFrame:
  """Returns one row per search, sorted by seed within an arm: arm, seed and the measures.

  The seconds of a population are divided by its number of members.
  """
  rows = []
  for arm, record in records.items():
    for seed in sorted(record.searches):
      numbers = measures(record.searches[seed], table)
      shares = record.shares[seed]
      seconds = numbers['seconds'] if shares == 1 else round(numbers['seconds'] / shares, 1)
      rows.append({'arm': arm, 'seed': seed} | numbers | {'seconds': seconds})
  columns = ['arm', 'seed', *measure_names(with_table=table is not None)]
  return pd.DataFrame(rows, columns=columns, dtype=object).replace({np.nan: None})  # objects: whole numbers stay whole


def comparisons(study: Study, searches: pd.DataFrame) -> pd.DataFrame:
  """Returns one row per arm with a reference: differences of the primary measure, paired by seed, and their p.

  One pair has no p.
  """
  primary = searches.pivot(index='seed', columns='arm', values=study.primary).astype(float)
  rows = {}
  for arm in (arm for arm in primary if study.references.get(arm) in primary):
    differences = (primary[arm] - primary[study.references[arm]]).dropna()
    if len(differences):
      rows[arm] = {
        f'Δ {study.primary}': format_spread(differences),
        'vs.': study.references[arm],
        'p': format_p(paired_p(differences.to_numpy())) if len(differences) > 1 else '',
      }
  return pd.DataFrame.from_dict(rows, orient='index', columns=[f'Δ {study.primary}', 'vs.', 'p'])


def summary_table(study: Study, searches: pd.DataFrame, compared: pd.DataFrame, compact: bool = True) -> str:
  """Returns mean ± standard deviation of each arm over its seeds, and `comparisons`, as Markdown."""
  names = [name for name in searches.columns if name not in ('arm', 'seed', 'genotype')]
  if compact:
    names = [name for name in dict.fromkeys((study.primary, *COMPACT)) if name in names]
  by_arm = searches.astype(dict.fromkeys(names, float)).groupby('arm', sort=False)
  summary = by_arm[names].agg(format_spread)
  summary.insert(0, 'n', by_arm.size().astype(str))
  return to_markdown(summary.join(compared).fillna('').reset_index())


def unfinished(study: Study, records: dict[str, Record]) -> str:
  """Returns sentences on the arms whose searches are not all kept; '' if all are."""
  arms = {arm: (len(records[arm].searches) if arm in records else 0, config) for arm, config in study.arms.items()}
  counts = [f'{count} of {len(seeds_of(config))} of {arm}' for arm, (count, config) in arms.items()]
  finished = all(count == len(seeds_of(config)) for count, config in arms.values())
  start = f'**Ended.** {study.ended} Searches' if study.ended else '**Not finished.** Searches so far'
  return '' if finished else f'{start}: {", ".join(counts)}.'


def seeds_table(study: Study, searches: pd.DataFrame) -> str:
  """Returns the primary measure and the cell of every search as Markdown."""
  cells = searches['genotype'].fillna('diverged').str.replace('|', r'\|', regex=False)
  columns = {
    'arm': searches['arm'],
    'seed': searches['seed'].astype(str),
    study.primary: searches[study.primary].astype(float).map(format_number),
    'cell': '`' + cells + '`',
  }
  return to_markdown(pd.DataFrame(columns))


def epochs_table(records: dict[str, Record], table: NasBench201) -> str:
  """Returns the cells of every search as Markdown, one row for the epochs in a row that have the same cell."""
  rows = []
  for arm, record in records.items():
    for seed, history in record.searches.items():
      for text, group in itertools.groupby(history, key=lambda row: row['genotype']):
        epochs = [row['epoch'] + 1 for row in group]
        row = {'arm': arm, 'seed': str(seed), 'epochs': f'{epochs[0]} – {epochs[-1]}' if epochs[1:] else str(epochs[0])}
        rows.append(row | describe_cell(text, table))
  return to_markdown(pd.DataFrame(rows))


def describe_cell(text: str | None, table: NasBench201) -> dict[str, str]:
  """Returns the accuracies of a cell, its distance to the published cell of β-DARTS, and its text, as texts."""
  if text is None:
    return dict.fromkeys((*TESTS, 'rank', 'distance'), '') | {'cell': 'diverged'}
  cell = Genotype.parse(text)
  accuracies = {column: format_number(getattr(table[cell], column)) for column in TESTS}
  others = {'rank': f'{table.rank(cell, TESTS[0]):,}', 'distance': str(distance(cell, Genotype.parse(PUBLISHED)))}
  escaped = text.replace('|', r'\|')
  return accuracies | others | {'cell': f'`{escaped}`'}


def claims_table(records: dict[str, Record], searches: pd.DataFrame) -> str:
  """Returns the published accuracies beside those of the final cells of each arm, as Markdown.

  An arm belongs to the published method whose name it starts with.
  """
  rows = []
  for method, published in PUBLISHED_ACCURACIES.items():
    stated = ', '.join(map(format_number, published))
    arms = [arm for arm in records if arm.startswith(method)]
    rows += [
      {'search': arm, 'published': stated, **_found(records[arm], searches[searches['arm'] == arm])} for arm in arms
    ]
    if not arms:
      rows.append(
        {'search': method, 'published': stated, 'here': 'not run', 'searches': '', 'epochs': '', 'distance': ''}
      )
  return to_markdown(pd.DataFrame(rows))


def _found(record, searches):
  numbers = searches[[*TESTS, 'epochs', 'distance_to_published']].astype(float)
  return {
    'here': ', '.join(format_spread(numbers[column]) for column in TESTS),
    'searches': str(len(searches)),
    'epochs': f'{numbers["epochs"].min():.0f} of {record.config["search"]["epochs"]}',
    'distance': format_spread(numbers['distance_to_published']),
  }


def equivalence_table(study: Study, records: dict[str, Record]) -> str:
  """Returns whether pairs of arms end with the same α, as Markdown; '' without such pairs."""
  rows = []
  for pair in (pair for pair in study.equivalence_pairs if set(pair) <= set(records)):
    a, b = (np.array([centred_alphas(rows[-1]) for rows in records[arm].searches.values()]) for arm in pair)
    gap, bound = gap_of_means(a, b)
    rows.append(
      {
        'arms': ' and '.join(pair),
        'n': f'{len(a)}, {len(b)}',
        'difference of mean α, root mean square (σ)': f'{gap:.2f}',
        '95 % below': f'{bound:.2f}',
        'margin': f'{study.equivalence_margin:.2f}',
        'equivalent': 'yes' if bound < study.equivalence_margin else 'not shown',
        'permutation p': format_p(energy_p(a, b)),
      }
    )
  return to_markdown(pd.DataFrame(rows)) if rows else ''


def baselines_table(table: NasBench201, dataset: str) -> str:
  """Returns `measures.baselines` as Markdown."""
  return to_markdown(baselines(table, dataset).map(format_number).reset_index(names='baseline'))


def provenance(records: dict[str, Record]) -> str:
  """Returns the machine and versions of the arms; arms that ran on the same ones are named together."""
  arms_by_place: dict[str, list[str]] = {}
  for arm, record in records.items():
    for environment in record.environments:
      leaves = flatten_dict(environment)
      known = (f'{path[-1]} {value}' for path, value in leaves.items() if value != '')
      arms_by_place.setdefault(', '.join(known), []).append(arm)
  if len(arms_by_place) == 1:
    return next(iter(arms_by_place))
  return '; '.join(f'{" and ".join(arms)}: {place}' for place, arms in arms_by_place.items())


def draw_percentiles(records: dict[str, Record], table: NasBench201, path: pathlib.Path) -> None:
  """Draws the percentile of each epoch's cell as SVG: thin lines are searches, thick lines the means of the arms."""
  import matplotlib

  matplotlib.use('svg')
  matplotlib.rcParams['svg.hashsalt'] = 'study'  # equal runs give an equal file
  from matplotlib import pyplot

  figure, axes = pyplot.subplots(figsize=(7, 4), layout='constrained')
  for color, (arm, record) in zip(matplotlib.color_sequences['tab10'], records.items(), strict=False):
    searches = record.searches.values()
    curves = [[percentile(table, row['genotype']) if row['genotype'] else np.nan for row in rows] for rows in searches]
    for curve in curves:
      axes.plot(range(1, len(curve) + 1), curve, color=color, alpha=0.3, linewidth=1)
    means = [sum(values) / len(values) for values in zip(*curves, strict=False)]
    axes.plot(range(1, len(means) + 1), means, color=color, label=arm)
  axes.axhline(50, color='gray', linestyle=':', linewidth=1, label='random cell')
  axes.set(xlabel='epoch', ylabel='percentile of the cell, mean of three test columns', ylim=(0, 101))
  axes.legend()
  figure.savefig(path, metadata={'Date': None})
  pyplot.close(figure)


# ---- numbers as text ----


def to_markdown(frame: pd.DataFrame) -> str:
  """Returns a table of texts as Markdown."""
  return frame.to_markdown(index=False, tablefmt='github', disable_numparse=True)


def format_number(value: float) -> str:
  """Returns two decimals, none from 1000 on, '' for NaN."""
  return '' if np.isnan(value) else f'{value:.2f}' if abs(value) < 1000 else f'{value:.0f}'


def format_spread(values: pd.Series) -> str:
  """Returns 'mean ± standard deviation' of the values that are not NaN, or the mean if all are equal."""
  mean, std = format_number(values.mean()), values.std()
  return f'{mean} ± {format_number(std)}' if std > 1e-9 else mean


def format_p(p: float) -> str:
  """Returns three decimals, or one digit and an exponent below 0.001."""
  return f'{p:.3f}' if p >= 0.001 else f'{p:.0e}'

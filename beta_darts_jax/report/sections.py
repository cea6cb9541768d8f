"""The sections of the page that hold figures, and their SVG and PNG forms."""

import dataclasses
import io
import itertools
import pathlib
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from beta_darts_jax.report import figures
from beta_darts_jax.report.cell_figure import draw_cell
from beta_darts_jax.report.figures import Curve, draw_panels
from beta_darts_jax.report.run_folder import RunFolder
from beta_darts_jax.spaces.genotype import Cell, Genotype
from beta_darts_jax.spaces.space import SearchSpace, make_space

MAX_MEMBERS = 8  # the cells and β of at most this many members are drawn
Figures = dict[str, Figure]  # by caption


@dataclasses.dataclass(frozen=True)
class Section:
  """A section with figures."""

  title: str
  file: str  # the name of the PNG files, without number and suffix
  figures: Figures
  note: str = ''  # a sentence under the heading
  folded: dict[str, Figures] = dataclasses.field(default_factory=dict)  # by the summary that the reader clicks on


def make_sections(runs: list[RunFolder]) -> list[Section]:
  """Draws the cells of each run, and one figure per subject with the curves of all runs."""
  with matplotlib.rc_context({'text.parse_math': False}):  # the name of a run may contain $
    sections = []
    for run in runs:
      suffix = f' of {run.name}' if len(runs) > 1 else ''
      sections += _search_cells(run, suffix) if run.is_search else [_trained_cells(run, suffix)]
    curves = [curve for run in runs for curve in curves_of(run, is_alone=len(runs) == 1)]
    subjects = [
      ('Architecture over the epochs', 'architecture', figures.ARCHITECTURE),
      ('Benchmark accuracy of the cell of each epoch', 'benchmark', figures.benchmark_panels(curves)),
      ('Losses and accuracies', 'training', figures.TRAINING),
      ('Diagnostics', 'diagnostics', figures.DIAGNOSTICS),
      ('Throughput', 'throughput', figures.THROUGHPUT),
    ]
    for title, file, panels in subjects:
      if figure := draw_panels(curves, panels):
        sections.append(Section(title, file, {'': figure}))
  return sections


def curves_of(run: RunFolder, is_alone: bool) -> list[Curve]:
  """Returns one curve per member. Its label is the name of the run; on a page of one run, its setting or its seed."""
  return [
    Curve((run.setting_text(k) or f'seed {rows[0].get("seed")}') if is_alone else run.name, rows)
    for k, rows in run.member_rows.items()
  ]


# ---- cells ----

_CELL_TEXTS = {'cell': 'cell', 'normal': 'normal cell', 'reduce': 'reduction cell'}


def _trained_cells(run: RunFolder, suffix: str) -> Section:
  cells = Genotype.parse(run.config['genotype']).cells
  names = ['cell'] if len(cells) == 1 else ['normal', 'reduce']
  drawn = {f'The {_CELL_TEXTS[name]}.': draw_cell(cell) for name, cell in zip(names, cells, strict=True)}
  return Section(f'Cell{suffix}', 'cell', drawn)


def _search_cells(run: RunFolder, suffix: str) -> list[Section]:
  """Draws the cells and β of a search; those of the members of a population are folded."""
  space = make_space(**run.config['space'])
  members = [k for k, rows in run.member_rows.items() if rows[-1].get('genotype')]  # without those that diverged
  cells = {k: _cell_figures(run, k, space) for k in members[:MAX_MEMBERS]}
  betas = {k: _beta_figures(run, k, space) for k in members[:MAX_MEMBERS]}
  if not members:
    return []
  if len(run.member_rows) == 1:
    return [Section(f'Cell{suffix}', 'cell', cells[0]), Section(f'β over the epochs{suffix}', 'betas', betas[0])]
  note = f'The page shows {MAX_MEMBERS} of {len(members)} members.' if len(members) > MAX_MEMBERS else ''
  folded = {f'member {k}, seed {run.member_rows[k][-1].get("seed")}': cells[k] | betas[k] for k in cells}
  return [Section(f'Cells and β of the members{suffix}', 'member', {}, note, folded)]


def _cell_figures(run: RunFolder, member: int, space: SearchSpace) -> Figures:
  """Draws the cells of the result, or of the last epoch so far, with β of that epoch as the width of the arrows."""
  rows = run.member_rows[member]
  result = run.member_results.get(member, {})
  epoch = result.get('epoch', rows[-1]['epoch'])
  values: dict[str, Any] = {**next(row for row in rows if row['epoch'] == epoch), **result}
  drawn = {}
  for cell_type, cell in zip(space.cell_types, space.parse(values['genotype']).cells, strict=True):
    caption = f'The {_CELL_TEXTS[cell_type]} of epoch {epoch + 1}. A wider arrow means a larger β.'
    drawn[caption] = draw_cell(cell, _strengths(cell, space.candidates(cell_type), space, values['betas'][cell_type]))
  return drawn


def _strengths(cell: Cell, candidates, space: SearchSpace, betas: list[list[float]]) -> list[float]:
  """Returns β of the operation of each edge of a derived cell; `candidates` and `betas` are [E, O]."""
  edges = [(space.edges.index((target, source)), operation) for target, source, operation in cell.edges]
  return [betas[e][candidates[e].index(operation)] for e, operation in edges]


def _beta_figures(run: RunFolder, member: int, space: SearchSpace) -> Figures:
  caption = 'β of the {}. Each panel shows one edge (source → target).'
  rows = run.member_rows[member]
  return {caption.format(_CELL_TEXTS[name]): figures.betas(rows, space, name) for name in space.cell_types}


# ---- files ----


def to_svg(figure: Figure) -> str:
  """Returns the <svg> element of a figure. The same data gives the same text."""
  file = io.StringIO()
  with matplotlib.rc_context({'svg.hashsalt': 'report', 'svg.fonttype': 'none'}):
    figure.savefig(file, format='svg', metadata={'Date': None})
  text = file.getvalue()
  return text[text.index('<svg') :]


def write_png(sections: list[Section], folder: pathlib.Path) -> None:
  """Writes each figure as 01_cell.png, 02_…, in the order of the page."""
  folder.mkdir(parents=True, exist_ok=True)
  number = itertools.count(1)
  for section in sections:
    for drawn in (section.figures, *section.folded.values()):
      for figure in drawn.values():
        figure.savefig(folder / f'{next(number):02}_{section.file}.png', dpi=150)

"""The sections of the page that hold figures, and their SVG and PNG forms."""

import dataclasses
import io
import pathlib
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from beta_darts_jax.report import figures
from beta_darts_jax.report.cell_figure import draw_cell
from beta_darts_jax.report.figures import Curve
from beta_darts_jax.report.run_folder import RunFolder
from beta_darts_jax.spaces.genotype import Cell, Genotype
from beta_darts_jax.spaces.space import SearchSpace, make_space

MAX_MEMBERS = 8  # the cells and β of at most this many members are drawn


@dataclasses.dataclass(frozen=True)
class Section:
  """A section with figures.

  Attributes:
    title: the heading.
    file: the name of the PNG files, without number and suffix.
    figures: {caption: figure}.
    note: a sentence under the heading.
    folded: {summary: {caption: figure}}, which the reader opens by a click.
  """

  title: str
  file: str
  figures: dict[str, Any]
  note: str = ''
  folded: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)


def make_sections(runs: list[RunFolder]) -> list[Section]:
  """Draws the cells of each run, and one figure per subject with the curves of all runs."""
  with matplotlib.rc_context({'text.parse_math': False}):  # the name of a run may contain $
    sections = []
    for run in runs:
      suffix = f' of {run.name}' if len(runs) > 1 else ''
      sections += _search_cells(run, suffix) if run.is_search else [_trained_cells(run, suffix)]
    curves = [curve for run in runs for curve in curves_of(run, is_alone=len(runs) == 1)]
    subjects = [
      ('Architecture over the epochs', 'architecture', figures.architecture(curves)),
      ('Benchmark accuracy of the cell of each epoch', 'benchmark', figures.benchmark(curves)),
      ('Losses and accuracies', 'training', figures.training(curves)),
      ('Diagnostics', 'diagnostics', figures.diagnostics(curves)),
      ('Throughput', 'throughput', figures.throughput(curves)),
    ]
  return sections + [Section(title, file, {'': figure}) for title, file, figure in subjects if figure]


def curves_of(run: RunFolder, is_alone: bool) -> list[Curve]:
  """Returns one curve per member.

  Args:
    run: the run.
    is_alone: whether the page has no other run. Then the label is the setting of the member, or its seed if the
      members have no settings. If not, the label is the name of the run.
  """
  curves = []
  for k, rows in run.member_rows.items():
    label = run.name
    if is_alone:
      label = run.setting_text(k) or f'seed {rows[0].get("seed")}'
    curves.append(Curve(label, rows))
  return curves


# ---- cells ----


def _trained_cells(run: RunFolder, suffix: str) -> Section:
  cells = _named_cells(Genotype.parse(run.config['genotype']))
  return Section(f'Cell{suffix}', 'cell', {f'The {_cell_text(name)}.': draw_cell(cell) for name, cell in cells.items()})


def _search_cells(run: RunFolder, suffix: str) -> list[Section]:
  """Draws the cells and β of a search; those of the members of a population are folded."""
  space = make_space(**run.config['space'])
  members = [k for k, rows in run.member_rows.items() if rows[-1].get('genotype')]  # without those that diverged
  cells = {k: _cell_figures(run, k, space) for k in members[:MAX_MEMBERS]}
  betas = {k: _beta_figures(run, k, space) for k in members[:MAX_MEMBERS]}
  if not members:
    return []
  if len(run.member_rows) == 1:
    return [
      Section(f'Cell{suffix}', 'cell', cells[0]),
      Section(f'β over the epochs{suffix}', 'betas', betas[0]),
    ]
  note = f'The page shows {MAX_MEMBERS} of {len(members)} members.' if len(members) > MAX_MEMBERS else ''
  folded = {f'member {k}, seed {run.member_rows[k][-1].get("seed")}': cells[k] | betas[k] for k in cells}
  return [Section(f'Cells and β of the members{suffix}', 'member', {}, note, folded)]


def _cell_figures(run: RunFolder, member: int, space: SearchSpace) -> dict[str, Figure]:
  """Draws the cells of the result, or of the last epoch so far, with β of that epoch as the width of the arrows."""
  rows = run.member_rows[member]
  result = run.member_results.get(member, {})
  epoch = result.get('epoch', rows[-1]['epoch'])
  values: dict[str, Any] = {**next(row for row in rows if row['epoch'] == epoch), **result}
  return {
    f'The {_cell_text(name)} of epoch {epoch + 1}. A wider arrow means a larger β.': draw_cell(
      cell, _strengths(cell, name, space, values['betas'])
    )
    for name, cell in _named_cells(space.parse(values['genotype'])).items()
  }


def _beta_figures(run: RunFolder, member: int, space: SearchSpace) -> dict[str, Figure]:
  return {
    f'β of the {_cell_text(name)}. Each panel shows one edge (source → target).': figures.betas(
      run.member_rows[member], space, name
    )
    for name in space.cell_types
  }


def _named_cells(genotype: Genotype) -> dict[str, Cell]:
  """Returns {cell type: cell}."""
  names = ['cell'] if len(genotype.cells) == 1 else ['normal', 'reduce']
  return dict(zip(names, genotype.cells, strict=True))


def _cell_text(cell_type: str) -> str:
  return {'cell': 'cell', 'normal': 'normal cell', 'reduce': 'reduction cell'}[cell_type]


def _strengths(cell: Cell, cell_type: str, space: SearchSpace, betas: dict) -> list[float]:
  """Returns β of the operation of each edge of a derived cell; `betas` are {cell type: [E, O]}."""
  strengths = []
  for target, source, operation in cell.edges:
    edge = space.edges.index((target, source))
    strengths.append(betas[cell_type][edge][space.candidates(cell_type)[edge].index(operation)])
  return strengths


# ---- files ----


def to_svg(section: Section) -> Section:
  """Returns the section with each figure as the text of an <svg> element."""
  folded = {summary: _svg_texts(drawn) for summary, drawn in section.folded.items()}
  return dataclasses.replace(section, figures=_svg_texts(section.figures), folded=folded)


def _svg_texts(drawn: dict[str, Figure]) -> dict[str, str]:
  return {caption: _svg_text(figure) for caption, figure in drawn.items()}


def _svg_text(figure: Figure) -> str:
  """Returns the <svg> element of a figure. The same data gives the same text."""
  file = io.StringIO()
  with matplotlib.rc_context({'svg.hashsalt': 'report', 'svg.fonttype': 'none'}):
    figure.savefig(file, format='svg', metadata={'Date': None})
  text = file.getvalue()
  return text[text.index('<svg') :]


def write_png(sections: list[Section], folder: pathlib.Path) -> None:
  """Writes each figure as 01_cell.png, 02_…, in the order of the page."""
  folder.mkdir(parents=True, exist_ok=True)
  named_figures = [
    (section.file, figure)
    for section in sections
    for drawn in (section.figures, *section.folded.values())
    for figure in drawn.values()
  ]
  for number, (name, figure) in enumerate(named_figures, start=1):
    figure.savefig(folder / f'{number:02}_{name}.png', dpi=150)

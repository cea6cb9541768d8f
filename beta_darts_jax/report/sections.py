"""The sections of the page that hold figures, and their SVG and PNG forms."""

import dataclasses
import io
import itertools
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from beta_darts_jax.report import figures
from beta_darts_jax.report.cell_figure import COLORS, draw_cell, operation_color
from beta_darts_jax.report.chain_figure import CELL_NAMES, draw_chain, draw_genotype
from beta_darts_jax.report.figures import Curve, Point, curve_colors, draw_panel, edge_name, find_leads
from beta_darts_jax.report.run_folder import RunFolder
from beta_darts_jax.report.verdict import benchmark_of
from beta_darts_jax.search.cost import SCALES
from beta_darts_jax.spaces.genotype import Genotype
from beta_darts_jax.spaces.skeletons import Place
from beta_darts_jax.spaces.space import SearchSpace

MAX_MEMBERS = 8  # the cells and leads of at most this many members are drawn
_CHAIN_TEXTS = {'normal': 'layers that keep the shape', 'reduce': 'first layers of the stages'}


class Drawing(NamedTuple):
  """A figure with the text under it."""

  figure: Figure
  caption: str = ''


@dataclasses.dataclass(frozen=True)
class Section:
  """A section with figures, which stand beside each other as far as the screen is wide enough."""

  title: str
  file: str  # the name of the PNG files, without number and suffix; also the class of the section in the page
  drawings: Sequence[Drawing]
  note: str = ''  # a sentence under the heading
  legend: dict[str, str] = dataclasses.field(default_factory=dict)  # {label: color}
  folded: dict[str, list[Drawing]] = dataclasses.field(default_factory=dict)  # by the summary that one clicks on


class Search(NamedTuple):
  """A search with a cell: one run, or one member of a population."""

  run: RunFolder
  member: int
  label: str  # '' if the page has no other search
  space: SearchSpace


def make_sections(runs: Sequence[RunFolder]) -> list[Section]:
  """Draws the cells of all runs beside each other, and one figure per subject with the curves of all runs."""
  with matplotlib.rc_context({'text.parse_math': False}):  # the name of a run may contain $
    searches = [search for run in runs for search in _searches(run, len(runs) > 1)]
    sections = [
      section for run in runs if run.is_population for section in (*_value_sections(run), *_front_sections(run))
    ]
    sections += [*_cell_sections(runs, searches), *_lead_sections(searches)]
    curves = [curve for run in runs for curve in curves_of(run, is_alone=len(runs) == 1)]
    subjects = [
      ('Benchmark accuracy of the cell of each epoch', 'benchmark', figures.benchmark_panels(curves)),
      ('Architecture over the epochs', 'architecture', figures.architecture_panels(curves)),
      ('Losses and accuracies', 'training', figures.TRAINING),
      ('Diagnostics', 'diagnostics', figures.DIAGNOSTICS),
      ('Throughput', 'throughput', figures.THROUGHPUT),
    ]
    return sections + [section for subject in subjects if (section := _curve_section(*subject, curves))]


def thumbnails(run: RunFolder) -> list[Figure]:
  """Draws the first cells of a run without texts, at most four."""
  with matplotlib.rc_context({'text.parse_math': False}):
    searches = _searches(run, is_one_of_many=True)[:4]
    return [drawing.figure for drawing in _draw_cells([run], searches, has_texts=False)[:4]]


def operation_legend(runs: Sequence[RunFolder]) -> dict[str, str]:
  """Returns {operation: color} of all candidates of searches and all operations of trained cells."""
  names: set[str] = set()
  for run in runs:
    if run.space:
      names |= run.space.operation_names
    else:
      names |= {name for cell in Genotype.parse(run.config['genotype']).cells for name in cell.operations}
  return {name: operation_color(name) for name in sorted(names)}


# ---- curves ----


def curves_of(run: RunFolder, is_alone: bool) -> list[Curve]:
  """Returns one curve per member. Its label is the name of the run; on a page of one run, its setting or its seed."""
  return [
    Curve((run.setting_text(k) or f'seed {rows[0].get("seed")}') if is_alone else run.name, rows)
    for k, rows in run.member_rows.items()
  ]


def _curve_section(title: str, file: str, panels: Sequence[figures.Panel], curves: list[Curve]) -> Section | None:
  """Draws the panels for which a curve has values; returns None without such a panel."""
  drawn = [panel for panel in panels if any(map(panel.has_values, curves))]
  if not drawn:
    return None
  colors = curve_colors(curves)
  shown = {curve.label for curve in curves if any(panel.has_values(curve) for panel in drawn)}
  legend = {label: color for label, color in colors.items() if label in shown} if len(colors) > 1 else {}
  return Section(title, file, [Drawing(draw_panel(panel, curves)) for panel in drawn], legend=legend)


class Accuracies(NamedTuple):
  """The accuracies of the members of a population: of their cells, or of their supernets without a table."""

  title: str
  percent: dict[int, float]  # by member
  texts: dict[int, str]  # for the pointer


def _accuracies(run: RunFolder) -> Accuracies:
  known = {k: benchmark.accuracy for k in run.member_rows if (benchmark := benchmark_of(run, k))}
  title = f'{run.dataset} test accuracy of the cell, %'
  if not known:
    known = {k: 100 * a for k in run.member_rows if (a := run.values(k).get('valid_accuracy')) is not None}
    title = 'validation accuracy of the supernet, %'
  texts = {k: f'member {k}, seed {run.values(k).get("seed")}: {known[k]:.2f} %' for k in known}
  return Accuracies(title, known, texts)


def _value_sections(run: RunFolder) -> list[Section]:
  """Draws for each varied value the accuracies of a population."""
  title, known, texts = _accuracies(run)
  settings: dict[int, dict] = {k: run.setting(k) or {'all searches': ''} for k in known}
  drawn = []
  for name in next(iter(settings.values()), ()):
    points = [Point(texts[k], settings[k][name], known[k]) for k in known]
    drawn.append(Drawing(figures.draw_values(name, points, title)))
  note = 'Each dot is a search. The bar is the mean ± standard deviation of the searches with that value.'
  return [Section(f'Accuracy and varied values: {run.name}', 'values', drawn, note)] if drawn else []


def _front_sections(run: RunFolder) -> list[Section]:
  """Draws the accuracies of a population against the costs of its cells, if it has costs."""
  title, known, texts = _accuracies(run)
  groups: dict[str, list[Point]] = {}
  unit = ''
  for k in known:
    if cost := run.values(k).get('cost'):
      scale, unit = SCALES[cost['unit']]
      value = cost['derived'] / scale
      point = Point(f'{texts[k]}, {value:.3g} {unit}', value, known[k])
      groups.setdefault(run.setting_text(k) or 'all searches', []).append(point)
  if not groups:
    return []
  legend = {label: COLORS[i % len(COLORS)] for i, label in enumerate(groups)}
  drawing = Drawing(figures.draw_front(groups, legend, title, f'cost of the cell, {unit}'))
  note = 'Each dot is a search. The line is the front: the highest accuracy up to each cost.'
  return [Section(f'Accuracy and cost: {run.name}', 'front', [drawing], note, legend)]


# ---- cells ----


def _searches(run: RunFolder, is_one_of_many: bool) -> list[Search]:
  """Returns the search of a run, or those of its members that have a cell; [] of a retraining."""
  if run.space is None:
    return []
  members = [k for k in run.member_rows if run.values(k).get('genotype') and run.values(k).get('betas')]
  name = [run.name] if is_one_of_many else []
  return [
    Search(run, k, ', '.join([*name, *_member_texts(run, k)] if run.is_population else name), run.space)
    for k in members[:MAX_MEMBERS]
  ]


def _member_texts(run: RunFolder, k: int) -> list[str]:
  return [text for text in (f'member {k}', f'seed {run.values(k).get("seed")}', run.setting_text(k)) if text]


def _cell_sections(runs: Sequence[RunFolder], searches: list[Search]) -> list[Section]:
  drawn = _draw_cells(runs, searches)
  with_arrows = any(not search.space.is_chain for search in searches)
  note = 'The width of an arrow is the lead of its operation over the second one, in β.' if with_arrows else ''
  if any('none' in search.space.operation_names and not search.space.keeps_two_edges for search in searches):
    note += ' A dotted arrow is none: the network has no such edge.'
  if any(len(run.member_rows) > MAX_MEMBERS for run in runs):
    note += f' The page shows the first {MAX_MEMBERS} members with a cell.'
  chains = [search.space.is_chain for search in searches] or [
    run.config.get('network', {}).get('stem') == 'mobile' for run in runs
  ]
  title = ('Chain' if all(chains) else 'Cell') + 's' * (len(drawn) > 1)
  return [Section(title, 'cell', drawn, note)] if drawn else []


def _draw_cells(runs: Sequence[RunFolder], searches: list[Search], has_texts: bool = True) -> list[Drawing]:
  """Draws the cells of the searches, then those of the retrainings."""
  drawn = [drawing for search in searches for drawing in _draw_search(search, has_texts)]
  for run in (run for run in runs if not run.is_search):
    label = f'{run.name}: the' if len(runs) > 1 else 'The'
    figures_by_name = draw_genotype(Genotype.parse(run.config['genotype']), has_texts)
    drawn += [Drawing(figure, f'{label} {name}.') for name, figure in figures_by_name.items()]
  return drawn


def _draw_search(search: Search, has_texts: bool) -> list[Drawing]:
  """Draws the cells of the result, or of the last epoch so far, with the leads of that epoch."""
  values, space, drawn = search.run.values(search.member), search.space, []
  genotype = space.parse(values['genotype'])
  leads = _leads_of_edges(genotype, space, values['betas'])
  label = f'{search.label}: the' if search.label else 'The'
  if space.is_chain:
    caption = f'{label} chain of epoch {values["epoch"] + 1}.'
    return [Drawing(draw_chain(genotype.cells, {place: lead.tip for place, lead in leads.items()}, has_texts), caption)]
  for index, (name, cell) in enumerate(zip(CELL_NAMES[space.skeleton], genotype.cells, strict=True)):
    of_cell = [leads[Place(index, target, source)] for target, source, _ in cell.edges]
    widths, tips = [lead.width for lead in of_cell], [lead.tip for lead in of_cell]
    caption = f'{label} {name} of epoch {values["epoch"] + 1}.'
    drawn.append(Drawing(draw_cell(cell, widths, tips, has_texts), caption))
  return drawn


class _Lead(NamedTuple):
  """The lead of the kept operation of an edge over the second one; the width is 0 where another one has more β."""

  width: float
  tip: str


def _leads_of_edges(genotype: Genotype, space: SearchSpace, betas) -> dict[Place, _Lead]:
  """Returns the lead of the operation of each edge of a genotype."""
  kept, found = genotype.operations_by_place, {}
  for cell_type in space.cell_types:
    leads = find_leads(space, cell_type, [betas[cell_type]])
    for e, place in enumerate(space.places(cell_type)):
      if operation := kept.get(place):
        beta = betas[cell_type][e][space.candidates(cell_type)[e].index(operation)]
        first, second, lead = leads.first[0, e], leads.second[0, e], float(leads.lead[0, e])
        order = f'leads {second} by {lead:.4f}' if first == operation else f'is behind {first}'
        tip = f'{edge_name(space, place)}: {operation}, β {beta:.4f}, {order}'
        found[place] = _Lead(lead if first == operation else 0.0, tip)
  return found


def _type_text(space: SearchSpace, cell_type: str) -> str:
  if space.is_chain:
    return _CHAIN_TEXTS[cell_type]
  return dict(zip(space.cell_types, CELL_NAMES[space.skeleton], strict=True))[cell_type]


def _lead_sections(searches: list[Search]) -> list[Section]:
  """Draws the leads of each search, in a section per cell type; the leads of several searches are folded."""
  note = (
    'Each panel is an edge (source → target), or a layer of a space without cells. Its height is the lead in β of the '
    'first operation over the second one, its color is the first operation. A flip is an epoch in which another '
    'operation takes the lead.'
  )
  groups: dict[str, dict[str, list[Drawing]]] = {}  # by cell type and search
  for search in searches:
    rows = search.run.member_rows[search.member]
    for cell_type in search.space.cell_types:
      drawn = [Drawing(figure) for figure in figures.draw_leads(rows, search.space, cell_type)]
      name = _type_text(search.space, cell_type)
      groups.setdefault(name, {})[search.label] = drawn
  sections = []
  for cell, folded in groups.items():
    title, legend = f'Lead on each edge over the epochs, {cell}', operation_legend([search.run for search in searches])
    drawn = folded.pop('', [])  # of the only search of the page
    sections.append(Section(title, 'leads', drawn, note, legend, folded))
  return sections


# ---- files ----


def to_svg(figure: Figure, salt: str) -> str:
  """Returns the <svg> element of a figure. The same data and salt give the same text.

  A `gid` 'tip:TEXT' becomes a title, which a browser shows at the pointer. A `gid` 'hover:JSON' becomes the attribute
  that the script of the page reads. Each figure of a page needs a salt of its own, so that no two have the same ids.
  """
  file = io.StringIO()
  with matplotlib.rc_context({'svg.hashsalt': salt, 'svg.fonttype': 'none'}):
    figure.savefig(file, format='svg', metadata={'Date': None}, transparent=True)
  text = file.getvalue()
  text = re.sub(r'<g id=(["\'])tip:(.*?)\1>', r'<g><title>\2</title>', text[text.index('<svg') :])
  return re.sub(r'<g id=(["\'])hover:(.*?)\1>', r'<g data-hover=\1\2\1>', text)


def write_png(sections: list[Section], folder: pathlib.Path) -> None:
  """Writes each figure as 01_cell.png, 02_…, in the order of the page, with the legend of its section."""
  folder.mkdir(parents=True, exist_ok=True)
  number = itertools.count(1)
  for section in sections:
    for drawing in itertools.chain(section.drawings, *section.folded.values()):
      if section.legend:
        handles = [Patch(color=color, label=label) for label, color in section.legend.items()]
        drawing.figure.legend(handles=handles, loc='upper center', bbox_to_anchor=(0.5, 0), fontsize=7, ncols=2)
      file = folder / f'{next(number):02}_{section.file}.png'
      drawing.figure.savefig(file, dpi=150, bbox_inches='tight')  # 'tight' includes the legend below the figure

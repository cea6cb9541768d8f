"""Figures of runs, drawn with matplotlib from the rows of metrics.jsonl. Each figure has one panel.

The `gid` of an artist holds what the page shows while the pointer is on the artist; see sections.to_svg.
"""

import dataclasses
import functools
import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from beta_darts_jax.report.cell_figure import COLORS, node_names, operation_color
from beta_darts_jax.spaces.nas_bench_201 import DATASETS
from beta_darts_jax.spaces.skeletons import Place
from beta_darts_jax.spaces.space import SearchSpace

LineStyle = Literal['-', '--', '-.', ':']
LEAST_LEAD = 0.004  # a smaller scale has longer numbers than fit
FONT_SIZE = 9  # points: 12 pixels on the page, where no figure is smaller than its natural size

# ---- one search ----


class Leads(NamedTuple):
  """The operation with the largest β on each edge, the second one, and the difference of their β."""

  first: np.ndarray  # str [T, E]; T epochs, E edges
  second: np.ndarray  # str [T, E]; '' if an edge has one candidate only
  lead: np.ndarray  # float [T, E]


def find_leads(space: SearchSpace, cell_type: str, betas) -> Leads:
  """Ranks the candidates of each edge by β, [T, E, O]. `none` does not count in a DARTS cell, which never keeps it."""
  names = np.array([[*operations, ''] for operations in space.candidates(cell_type)])  # [E, O + 1]
  betas = np.pad(np.asarray(betas, float), ((0, 0), (0, 0), (0, 1)))
  if space.keeps_two_edges:
    betas = np.where(names == 'none', -1.0, betas)
  order = np.argsort(-betas, axis=-1, kind='stable')[..., :2]
  first, second = np.moveaxis(np.take_along_axis(betas, order, axis=-1), -1, 0)
  ranked = np.take_along_axis(np.broadcast_to(names, betas.shape), order, axis=-1)
  return Leads(ranked[..., 0], ranked[..., 1], first - second)


def edge_name(space: SearchSpace, place: Place) -> str:
  """Returns `source → target` with the names of the nodes, or the stage and the layer of a chain, counted from 1."""
  if space.is_chain:
    return f'stage {place.cell + 1}, layer {place.target}'
  names = node_names(space.num_inputs, space.nodes)
  return f'{names[place.source]} → {names[place.target]}'


def draw_leads(rows: Sequence[Mapping[str, Any]], space: SearchSpace, cell_type: str) -> list[Figure]:
  """Draws for each edge by how much the operation with the largest β leads, in its color. A flip changes the color."""
  rows = [row for row in rows if row.get('betas')]
  epochs = np.array([row['epoch'] + 1 for row in rows])
  betas = np.array([row['betas'][cell_type] for row in rows])  # [T, E, O]
  leads = find_leads(space, cell_type, betas)
  figures = []
  for e, (place, names) in enumerate(zip(space.places(cell_type), space.candidates(cell_type), strict=True)):
    first, second, lead = (part[:, e] for part in leads)
    figure = Figure(figsize=(1.9, 1.4))
    axes = figure.add_axes((0.25, 0.17, 0.7, 0.67))
    flips = int((first[1:] != first[:-1]).sum())
    axes.set_title(f'{edge_name(space, place)}, {flips} flip{"" if flips == 1 else "s"}', fontsize=FONT_SIZE)
    bounds = np.concatenate([epochs - 0.5, epochs[-1:] + 0.5])  # of the bars, one for each epoch
    for operation in dict.fromkeys(first):
      heights = np.where(first == operation, lead, 0)
      axes.stairs(heights, bounds, fill=True, color=operation_color(operation), label=operation)
    axes.set(xlim=bounds[[0, -1]], ylim=(0, max(1.05 * leads.lead.max(), LEAST_LEAD)))
    texts = {}  # by epoch
    for epoch, a, b, value, of_edge in zip(epochs.tolist(), first, second, lead, betas[:, e], strict=True):
      ranking = [f'{names[o]} β {of_edge[o]:.4f}' for o in np.argsort(-of_edge, kind='stable')]
      texts[epoch] = '\n'.join([f'{a} leads {b} by {value:.4f}', *ranking])
    _finish(axes, texts)
    axes.locator_params(nbins=3)
    figures.append(figure)
  return figures


# ---- several searches or trainings ----


@dataclasses.dataclass(frozen=True)
class Curve:
  """The rows of one search or training. Curves with the same label have the same color."""

  label: str
  rows: Sequence[Mapping[str, Any]]

  def points(self, name: str) -> tuple[list[int], list[float]]:
    """Returns (epochs counted from 1, values) of the rows in which `name` has a value."""
    rows = [row for row in self._flat_rows if row.get(name) is not None]
    return [row['epoch'] + 1 for row in rows], [row[name] for row in rows]

  @functools.cached_property
  def _flat_rows(self) -> list[dict[str, Any]]:
    return [_flat(row) for row in self.rows]


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a row with the values of its groups beside each other, and with what follows from them."""
  groups = (row.get('benchmark') or {}) | (row.get('regularizer_weights') or {})
  return {**row, **groups, **_alpha_spread(row), **_diagnostics(row), **_costs(row)}


def _alpha_spread(row: Mapping[str, Any]) -> dict[str, float]:
  """Standard deviation of log β over the operations, mean over the edges; α and log β differ by a constant per edge."""
  if not row.get('betas'):
    return {}
  spreads = [np.log(np.maximum(np.asarray(betas), 1e-12)).std(axis=-1) for betas in row['betas'].values()]
  return {'alpha_spread': float(np.concatenate(spreads).mean())}


def _costs(row: Mapping[str, Any]) -> dict[str, float]:
  """The cost of the cell and the expected cost of a row, as far as the run has costs."""
  return {f'{name}_cost': row['cost'][name] for name in ('derived', 'expected') if row.get('cost')}


def _diagnostics(row: Mapping[str, Any]) -> dict[str, float | None]:
  """The diagnostics of a row, each as one number: means over the edges, the dominant eigenvalue, accuracies and τ."""
  given = row.get('diagnostics') or {}
  numbers: dict[str, float | None] = {
    network: given.get(f'{network}_accuracy') for network in ('continuous', 'discrete')
  }
  for name, values in (('entropy', given.get('entropies')), ('variance', given.get('variances'))):
    if values is not None:
      numbers[name] = float(np.mean(np.concatenate([np.ravel(of_cell) for of_cell in values.values()])))
  if given.get('eigenvalues'):
    numbers['eigenvalue'] = max(given['eigenvalues'], key=abs)
  return numbers | {name: tau['tau'] for name, tau in (given.get('kendall_tau') or {}).items()}


class Panel(NamedTuple):
  """One panel of lines over the epochs."""

  title: str
  lines: dict[str, LineStyle]  # by the name of the value
  optimum: float | None = None  # a height to mark
  from_zero: bool = False  # whether the axis of the values begins at 0

  def has_values(self, curve: Curve) -> bool:
    """Whether any row of the curve has a value to draw."""
    return any(curve.points(name)[0] for name in self.lines)


_STYLES: dict[str, LineStyle] = {'train': '-', 'alpha': ':', 'valid': '--', 'test': '-.'}
TRAINING = (
  Panel('loss, nats', {f'{split}_loss': style for split, style in _STYLES.items()}),
  Panel('accuracy', {f'{split}_accuracy': style for split, style in _STYLES.items()}),
  Panel('learning rate', {'learning_rate': '-'}),
)
DIAGNOSTICS = (
  Panel('entropy of β, nats', {'entropy': '-'}),
  Panel('variance of β', {'variance': '-'}),
  Panel('dominant eigenvalue of ∇²_α L_valid', {'eigenvalue': '-'}),
  Panel('accuracy of the supernet', {'continuous': '-', 'discrete': '--'}),
  Panel('Kendall τ with the benchmark', {'one_shot': '-', 'parameters': '--'}),
)
THROUGHPUT = (
  Panel('training images per second', {'images_per_second': '-'}, from_zero=True),
  Panel('seconds per epoch', {'seconds': '-'}, from_zero=True),
)


def architecture_panels(curves: list[Curve]) -> list[Panel]:
  """Returns panels of α, of the weights of the regularizers and of the skip connections. A weight of 0 is left out."""
  own = dict.fromkeys(name for curve in curves for row in curve.rows for name in row.get('regularizer_weights') or ())
  names = ['beta_decay_weight', *own]
  used = [name for name in names if any(any(curve.points(name)[1]) for curve in curves)] or names[:1]
  title = 'weights λ' if len(used) > 1 else f'weight λ of {used[0].removesuffix("_weight").replace("_", " ")}'
  return [
    Panel('std of α (mean over edges)', {'alpha_spread': '-'}),
    Panel(title, dict(zip(used, itertools.cycle(_STYLES.values())))),
    Panel('skip connections, (normal) cell', {'skips': '-'}),
    Panel('cost of the cell', {'derived_cost': '-', 'expected_cost': '--'}, from_zero=True),
  ]


def benchmark_panels(curves: list[Curve]) -> list[Panel]:
  """Returns panels of the test accuracy that the benchmark gives for the cell of each epoch, with the optimum."""
  panels = []
  known = [row['benchmark'] for curve in curves for row in curve.rows if row.get('benchmark')]
  for dataset in DATASETS if known else ():
    optimum = known[-1][f'{dataset}_test'] + known[-1][f'{dataset}_test_regret']
    panels.append(Panel(f'{dataset} test accuracy, %', {f'{dataset}_test': '-'}, optimum))
  return panels


def curve_colors(curves: Sequence[Curve]) -> dict[str, str]:
  """Returns {label: color} of curves."""
  return {label: COLORS[i % len(COLORS)] for i, label in enumerate(dict.fromkeys(curve.label for curve in curves))}


def draw_panel(panel: Panel, curves: Sequence[Curve]) -> Figure:
  """Draws the lines of all curves. The colors are those of `curve_colors`."""
  figure = Figure(figsize=(3.3, 2.5), layout='constrained')
  axes, colors = figure.subplots(), curve_colors(curves)
  texts: dict[int, list[str]] = {}  # by epoch
  heights: list[float] = []
  drawn = dict.fromkeys(name for name in panel.lines for curve in curves if curve.points(name)[0])
  for curve in curves:
    for name in drawn:
      epochs, values = curve.points(name)
      marker = 'o' if len(epochs) < 3 else None  # a line through one point is invisible
      style: dict[str, Any] = {'color': colors[curve.label], 'linestyle': panel.lines[name], 'marker': marker}
      axes.plot(epochs, values, linewidth=1.2, alpha=0.85, markersize=3, **style)
      heights += values
      words = ([curve.label] if len(colors) > 1 else []) + ([name.replace('_', ' ')] if len(drawn) > 1 else [])
      for epoch, value in zip(epochs, values, strict=True):
        texts.setdefault(epoch, []).append(' '.join([*words, f'{value:.4g}']))
  if panel.optimum is not None:
    axes.axhline(panel.optimum, color='gray', linestyle=':', linewidth=1)
    position = (0.02, panel.optimum)
    axes.annotate('optimum', position, xycoords=('axes fraction', 'data'), fontsize=FONT_SIZE, color='gray', va='top')
  if len(drawn) > 1:
    handles = [Line2D([], [], color='gray', linestyle=panel.lines[name]) for name in drawn]
    axes.legend(handles, [name.replace('_', ' ') for name in drawn], fontsize=FONT_SIZE)
  axes.set_title(panel.title, fontsize=FONT_SIZE + 1)
  axes.set_xlabel('epoch', fontsize=FONT_SIZE)
  if all(isinstance(value, int) for value in heights):  # counts
    axes.locator_params(axis='y', integer=True)
    axes.set_ylim(-0.2, max(*heights, 1) + 0.2)
  low, high = axes.get_ylim()
  if high - low < 0.001 * high:  # Matplotlib would write the ticks as differences from a number
    axes.set_ylim(0.99 * low, 1.01 * high)
  if panel.from_zero:
    axes.set_ylim(bottom=0)
  _finish(axes, {epoch: '\n'.join(lines) for epoch, lines in sorted(texts.items())})
  return figure


def _finish(axes: Axes, texts: dict[int, str]) -> None:
  """Formats the ticks, and keeps the text of each epoch for the pointer."""
  axes.tick_params(labelsize=FONT_SIZE)
  axes.locator_params(axis='x', integer=True)
  if len(texts) == 1:
    axes.set_xlim(min(texts) - 0.5, min(texts) + 0.5)
  axes.set_gid('hover:' + json.dumps({'range': axes.get_xlim(), 'texts': texts}, ensure_ascii=False))


# ---- a population ----


class Point(NamedTuple):
  """One search of a population."""

  text: str  # for the pointer
  value: Any  # of what the members vary, or the cost of the cell
  accuracy: float  # percent


def draw_values(name: str, points: Sequence[Point], accuracy: str) -> Figure:
  """Draws the accuracy of each search against the value of `name`, with mean ± standard deviation of each value."""
  figure = Figure(figsize=(3.3, 2.7), layout='constrained')
  axes = figure.subplots()
  values = sorted({point.value for point in points})
  for x, value in enumerate(values):
    same = [point for point in points if point.value == value]
    heights = [point.accuracy for point in same]
    for i, point in enumerate(same):
      place = x + 0.3 * (i - (len(same) - 1) / 2) / len(same)  # beside each other
      axes.plot([place], [point.accuracy], 'o', color=COLORS[0], markersize=5, alpha=0.7, gid=f'tip:{point.text}')
    spread = float(np.std(heights, ddof=1)) if len(same) > 1 else None
    mean = float(np.mean(heights))
    text = f'mean {mean:.2f}' + (f' ± {spread:.2f}' if spread is not None else '') + f' %, n = {len(same)}'
    axes.errorbar([x + 0.3], [mean], yerr=spread, fmt='_', color='black', markersize=12, capsize=4, gid=f'tip:{text}')
  axes.set_xticks(range(len(values)), [f'{value:g}' if isinstance(value, float) else str(value) for value in values])
  axes.set_xlim(-0.5, len(values) - 0.3)
  axes.set_xlabel(name, fontsize=FONT_SIZE)
  axes.set_title(accuracy, fontsize=FONT_SIZE)
  axes.tick_params(labelsize=FONT_SIZE)
  return figure


def find_front(points: Iterable[Point]) -> list[Point]:
  """Returns the points that are more accurate than all cheaper ones, in the order of their cost."""
  ordered = sorted(points, key=lambda point: (point.value, -point.accuracy))
  best = itertools.accumulate((point.accuracy for point in ordered), max, initial=-math.inf)
  return [point for point, before in zip(ordered, best, strict=False) if point.accuracy > before]


def draw_front(groups: Mapping[str, Sequence[Point]], colors: Mapping[str, str], accuracy: str, cost: str) -> Figure:
  """Draws the accuracy of each search against the cost of its cell, and their front as steps. Both are by label."""
  figure = Figure(figsize=(3.3, 2.7), layout='constrained')
  axes = figure.subplots()
  for label, points in groups.items():
    for point in points:
      axes.plot([point.value], [point.accuracy], 'o', color=colors[label], markersize=6, gid=f'tip:{point.text}')
  front = find_front(itertools.chain.from_iterable(groups.values()))
  heights = [point.accuracy for point in front]
  axes.step([point.value for point in front], heights, where='post', color='gray', linewidth=1, zorder=0)
  axes.set_xlabel(cost, fontsize=FONT_SIZE)
  axes.set_title(accuracy, fontsize=FONT_SIZE)
  axes.tick_params(labelsize=FONT_SIZE)
  return figure

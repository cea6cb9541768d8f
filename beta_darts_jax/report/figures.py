"""Figures of runs, drawn with matplotlib from the rows of metrics.jsonl."""

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from beta_darts_jax.report.cell_figure import COLORS, node_names, operation_color
from beta_darts_jax.spaces.nas_bench_201 import DATASETS
from beta_darts_jax.spaces.space import SearchSpace

LineStyle = Literal['-', '--', '-.', ':']

# ---- one search ----


def betas(rows: Sequence[Mapping[str, Any]], space: SearchSpace, cell_type: str) -> Figure:
  """Draws β of each edge over the epochs, as bands that add up to one.

  Epoch 0 is drawn as uniform, because α starts within 1e-3 of zero.
  """
  rows = [row for row in rows if row.get('betas')]
  epochs = [0] + [row['epoch'] + 1 for row in rows]
  values = np.array([np.ones(space.alpha_shape)] + [row['betas'][cell_type] for row in rows])  # [1 + epochs, E, O]
  values /= values.sum(axis=-1, keepdims=True)
  num_edges = len(space.edges)
  columns = 3 if num_edges <= 6 else 5
  lines = math.ceil(num_edges / columns)
  figure = Figure(figsize=(9.6, 1.9 * lines + 0.5), layout='constrained')
  grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
  names = node_names(space.num_inputs, space.nodes)
  bands: dict[str, Artist] = {}
  for e, (target, source) in enumerate(space.edges):
    operations = space.candidates(cell_type)[e]
    colors = [operation_color(operation) for operation in operations]
    stack = grid[e].stackplot(epochs, values[:, e].T, colors=colors, linewidth=0)
    bands |= dict(zip(operations, stack, strict=True))
    grid[e].set_title(f'{names[source]} → {names[target]}', fontsize=9)
    grid[e].set(xlim=(0, epochs[-1]), ylim=(0, 1))
    _format_ticks(grid[e])
  _finish_grid(figure, grid[num_edges:])
  _add_legend(figure, bands, max_columns=7)
  return figure


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
    return [{**row, **(row.get('benchmark') or {}), **_alpha_spread(row), **_diagnostics(row)} for row in self.rows]


def _alpha_spread(row: Mapping[str, Any]) -> dict[str, float]:
  """Standard deviation of log β over the operations, mean over the edges; α and log β differ by a constant per edge."""
  if not row.get('betas'):
    return {}
  log_betas = np.log(np.maximum(np.concatenate([np.asarray(betas) for betas in row['betas'].values()]), 1e-12))
  return {'alpha_spread': float(log_betas.std(axis=-1).mean())}


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
ARCHITECTURE = (
  Panel('standard deviation of α (mean over edges)', {'alpha_spread': '-'}),
  Panel('weight λ of Beta-Decay', {'beta_decay_weight': '-'}),
  Panel('skip connections in the (normal) cell', {'skips': '-'}),
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


def benchmark_panels(curves: list[Curve]) -> list[Panel]:
  """Returns panels of the test accuracy that the benchmark gives for the cell of each epoch, with the optimum."""
  panels = []
  known = [row['benchmark'] for curve in curves for row in curve.rows if row.get('benchmark')]
  for dataset in DATASETS if known else ():
    optimum = known[-1][f'{dataset}_test'] + known[-1][f'{dataset}_test_regret']
    panels.append(Panel(f'{dataset} test accuracy, %', {f'{dataset}_test': '-'}, optimum))
  return panels


def draw_panels(curves: list[Curve], panels: Sequence[Panel]) -> Figure | None:
  """Draws the panels for which a curve has values. Returns None if no panel is left."""
  panels = [panel for panel in panels if any(map(panel.has_values, curves))]
  if not panels:
    return None
  columns = min(3, len(panels))
  lines = math.ceil(len(panels) / columns)
  figure = Figure(figsize=(3.3 * columns + 0.3, 2.7 * lines + 0.3), layout='constrained')
  grid = figure.subplots(lines, columns, squeeze=False).ravel()
  labels = list(dict.fromkeys(curve.label for curve in curves))
  colors = {label: COLORS[i % len(COLORS)] for i, label in enumerate(labels)}
  for axes, panel in zip(grid, panels, strict=False):
    _draw_panel(axes, panel, curves, colors)
  _finish_grid(figure, grid[len(panels) :])
  if len(colors) > 1:
    plotted = [curve.label for curve in curves if any(panel.has_values(curve) for panel in panels)]
    handles = {label: Line2D([], [], color=colors[label]) for label in plotted}
    _add_legend(figure, handles, max_columns=4)
  return figure


def _draw_panel(axes: Axes, panel: Panel, curves: list[Curve], colors: dict[str, str]) -> None:
  plotted: dict[str, list[float]] = {}  # {name: values of all curves}
  for curve in curves:
    for name, style in panel.lines.items():
      epochs, values = curve.points(name)
      marker = 'o' if len(epochs) < 3 else None  # a line through one point is invisible
      color = colors[curve.label]
      axes.plot(epochs, values, color=color, linestyle=style, linewidth=1.2, alpha=0.85, marker=marker, markersize=3)
      plotted.setdefault(name, []).extend(values)
  if panel.optimum is not None:
    axes.axhline(panel.optimum, color='gray', linestyle=':', linewidth=1)
    position = (0.02, panel.optimum)
    axes.annotate('optimum', position, xycoords=('axes fraction', 'data'), fontsize=7, color='gray', va='top')
  if len(panel.lines) > 1:
    names = [name for name in panel.lines if plotted[name]]
    handles = [Line2D([], [], color='gray', linestyle=panel.lines[name]) for name in names]
    axes.legend(handles, [name.replace('_', ' ') for name in names], fontsize=7)
  axes.set_title(panel.title, fontsize=9)
  _format_ticks(axes)
  heights = [value for values in plotted.values() for value in values]
  if all(isinstance(value, int) for value in heights):  # counts
    axes.locator_params(axis='y', integer=True)
    axes.set_ylim(-0.2, max(*heights, 1) + 0.2)
  if panel.from_zero:
    axes.set_ylim(bottom=0)


def _format_ticks(axes: Axes) -> None:
  axes.tick_params(labelsize=8)
  axes.locator_params(axis='x', integer=True)


def _finish_grid(figure: Figure, unused: Iterable[Axes]) -> None:
  for axes in unused:
    axes.axis('off')
  figure.supxlabel('epoch', fontsize=9)


def _add_legend(figure: Figure, handles: dict[str, Any], max_columns: int) -> None:
  columns = min(max_columns, len(handles))
  figure.legend(list(handles.values()), list(handles), loc='outside upper center', ncols=columns, fontsize=8)

"""The drawing of a cell as a graph."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.transforms import Bbox

from beta_darts_jax.spaces.genotype import Cell

Point = tuple[float, float]  # inches; y grows upwards
COLORS = tuple(map(matplotlib.colors.to_hex, matplotlib.color_sequences['tab10']))
NODE_DISTANCE = 1.1
LABEL_HEIGHT, LETTER_WIDTH = 0.24, 0.076  # of a label with its box
MAX_OFFSET = 1.35  # between the middle of an arrow and the straight line
OPERATION_COLORS = {  # an operation has the same color on every page
  'none': '#b8b8b8',
  'skip_connect': '#e0912f',
  'nor_conv_1x1': '#7fb2d9',
  'nor_conv_3x3': '#2166ac',
  'avg_pool_3x3': '#a1d76a',
  'max_pool_3x3': '#4d9221',
  'sep_conv_3x3': '#2166ac',
  'sep_conv_5x5': '#5e4fa2',
  'dil_conv_3x3': '#7fb2d9',
  'dil_conv_5x5': '#a99ad0',
  'noise': '#d6604d',
  'mb_conv_3x3_e3': '#9ecae1',
  'mb_conv_3x3_e6': '#2171b5',
  'mb_conv_5x5_e3': '#a1d99b',
  'mb_conv_5x5_e6': '#238b45',
  'mb_conv_7x7_e3': '#bcbddc',
  'mb_conv_7x7_e6': '#6a51a3',
}


class Arrow(NamedTuple):
  """A quadratic Bézier curve, as matplotlib's arc3 draws it."""

  start: Point
  end: Point
  bend: float  # `rad` of arc3

  def at(self, t: float) -> Point:
    """Returns the point at 0 ≤ t ≤ 1."""
    start, end = np.array(self.start), np.array(self.end)
    dx, dy = end - start
    control = (start + end) / 2 + self.bend * np.array([dy, -dx])
    x, y = (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end
    return float(x), float(y)


def operation_color(operation: str) -> str:
  """Returns the color of an operation; for a user's own operation, the color depends on its name only."""
  return OPERATION_COLORS.get(operation) or COLORS[sum(operation.encode()) % len(COLORS)]


def node_names(num_inputs: int, num_nodes: int) -> list[str]:
  """Returns the names of a cell's nodes: in, 1, …, out (NAS-Bench-201) or k−2, k−1, 1, …, out (the DARTS family)."""
  between = [str(i + 1) for i in range(num_nodes)]
  return ['in', *between[:-1], 'out'] if num_inputs == 1 else ['k−2', 'k−1', *between, 'out']


def draw_cell(cell: Cell, strengths: Sequence[float] = (), tips: Sequence[str] = (), has_texts: bool = True) -> Figure:
  """Draws a cell as a graph: nodes from top to bottom, one arrow per edge. One unit of its axes is one inch.

  Args:
    cell: the cell.
    strengths: a number ≥ 0 per edge, in the order of `cell.edges`; a stronger edge has a wider arrow. () gives equal
      widths. An edge with `none` is dotted.
    tips: a text per edge, which the page shows when the pointer is on the arrow.
    has_texts: whether operations and nodes have labels.
  """
  figure = Figure()
  axes = figure.add_axes((0, 0, 1, 1))
  positions, names = _node_positions(cell), node_names(cell.num_inputs, len(cell.nodes))
  strengths = strengths or [1.0] * len(cell.edges)
  tips = tips or [f'{names[source]} → {names[target]}: {operation}' for target, source, operation in cell.edges]
  arrows = [_make_arrow(cell, positions, e) for e in range(len(cell.edges))]
  for arrow, (_, _, operation), strength, tip in zip(arrows, cell.edges, strengths, tips, strict=True):
    style = {'color': operation_color(operation), 'linewidth': 0.8 + 4 * strength / max(*strengths, 1e-9)}
    if operation == 'none':  # the edge is absent
      style |= {'linewidth': 0.8, 'linestyle': ':'}
    _draw_arrow(axes, arrow, zorder=1, gid=f'tip:{tip}', mutation_scale=12, **style)
  output = len(positions) - 1
  for node in cell.concat:
    arrow = Arrow(positions[node], positions[output], 0.12 * (output - node - 1))
    _draw_arrow(axes, arrow, zorder=0, linestyle=':', color='#999999', linewidth=0.8, mutation_scale=9)
  labels = _place_labels(arrows, positions, cell.operations) if has_texts else []
  for box, operation, tip in zip(labels, cell.operations, tips, strict=False):
    style = {'boxstyle': 'round,pad=0.15', 'edgecolor': operation_color(operation), 'linewidth': 0.8}
    _write(
      axes,
      ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2),
      operation,
      8.5,
      style | {'facecolor': 'white'},
      zorder=2,
      gid=f'tip:{tip}',
    )
  for name, position in zip(names, positions, strict=True):
    style = {'boxstyle': 'circle,pad=0.3', 'facecolor': '#eef2f6', 'edgecolor': '#445566'}
    _write(axes, position, name if has_texts else '   ', 9, style, zorder=3)
  _fit(axes, positions, arrows, labels)
  figure.set_size_inches(np.ptp(axes.get_xlim()), np.ptp(axes.get_ylim()))
  axes.axis('off')
  return figure


def _fit(axes: Axes, positions: list[Point], arrows: list[Arrow], labels: list[Bbox]) -> None:
  """Makes the axes as large as what is drawn."""
  points = [*positions, *(arrow.at(t) for arrow in arrows for t in np.linspace(0, 1, 9))]
  points += [point for box in labels for point in (box.min, box.max)]
  (left, bottom), (right, top) = np.min(points, axis=0), np.max(points, axis=0)
  axes.set(xlim=(min(left, -0.2) - 0.1, max(right, 0.2) + 0.1), ylim=(bottom - 0.3, top + 0.3))


def _node_positions(cell: Cell) -> list[Point]:
  """Returns the position of each node: inputs, intermediate nodes, and the output if the cell concatenates nodes."""
  inputs = [(0.0, 0.0)] if cell.num_inputs == 1 else [(-0.75, 0.0), (0.75, 0.0)]
  num_others = len(cell.nodes) + bool(cell.concat)
  return inputs + [(0.0, -NODE_DISTANCE * (i + 1)) for i in range(num_others)]


def _make_arrow(cell: Cell, positions: list[Point], edge: int) -> Arrow:
  """Returns the arrow of an edge. Arrows of the same length alternate between left and right."""
  target, source, _ = cell.edges[edge]
  length = target - source
  if cell.num_inputs == 2 and source < 2:
    side, offset = (1 if source else -1), 0.12 + 0.16 * (target - 2)
  else:
    same = [e for e, (t, s, _) in enumerate(cell.edges) if t - s == length and (cell.num_inputs == 1 or s > 1)]
    side = (-1) ** (same.index(edge) + length + 1)
    offset = min(0.25 + 0.45 * (length - 1), MAX_OFFSET) if length > 1 else 0.0
  start, end = positions[source], positions[target]
  return Arrow(start, end, -2 * side * offset / float(np.hypot(*np.subtract(end, start))))


def _place_labels(arrows: list[Arrow], positions: list[Point], operations: Sequence[str]) -> list[Bbox]:
  """Returns the box of each label: the place on its arrow, close to the middle, that covers least of what is there."""
  distances = [sign * d / 50 for d in range(15) for sign in (1, -1)]
  taken = [_box(position, 0.36, 0.36) for position in positions]
  for arrow, operation in zip(arrows, operations, strict=True):
    boxes = [_box(arrow.at(0.5 + d), LETTER_WIDTH * len(operation) + 0.1, LABEL_HEIGHT) for d in distances]
    taken.append(min(boxes, key=lambda box: _covered_area(box, taken)))
  return taken[len(positions) :]


def _covered_area(box: Bbox, others: list[Bbox]) -> float:
  """Returns the sum of the areas that a box shares with other boxes."""
  shared = [Bbox.intersection(box, other) for other in others]
  return round(sum(both.width * both.height for both in shared if both), 3)


def _box(center: Point, width: float, height: float) -> Bbox:
  return Bbox.from_bounds(center[0] - width / 2, center[1] - height / 2, width, height)


def _draw_arrow(axes: Axes, arrow: Arrow, **style) -> None:
  style |= {'shrinkA': 13, 'shrinkB': 13}  # points between the center of a node and the arrow
  connection = f'arc3,rad={arrow.bend}'
  axes.add_patch(FancyArrowPatch(arrow.start, arrow.end, connectionstyle=connection, arrowstyle='-|>', **style))


def _write(axes: Axes, position: Point, text: str, fontsize: float, box: dict, **style) -> None:
  axes.annotate(text, position, ha='center', va='center', fontsize=fontsize, bbox=box, **style)

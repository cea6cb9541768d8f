"""The drawing of a cell as a graph."""

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from beta_darts_jax.spaces.genotype import Cell

Point = tuple[float, float]
COLORS = tuple(map(matplotlib.colors.to_hex, matplotlib.color_sequences['tab10']))
NODE_DISTANCE = 2.2
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
}


def operation_color(operation: str) -> str:
  """Returns the color of an operation; for a user's own operation, the color depends on its name only."""
  return OPERATION_COLORS.get(operation) or COLORS[sum(operation.encode()) % len(COLORS)]


def draw_cell(cell: Cell, strengths: list[float] | None = None) -> Figure:
  """Draws a cell as a graph: nodes from left to right, one arrow per edge.

  `strengths` are β of the operation of each edge, in the order of `cell.edges`; a stronger edge has a wider arrow.
  """
  figure = Figure(layout='constrained')
  axes = figure.subplots()
  axes.set_aspect('equal')  # the arrows bend in pixels, the labels are placed in data units
  positions = _node_positions(cell)
  strengths = strengths or [1.0] * len(cell.edges)
  strongest = max(*strengths, 1e-9)
  heights = [y for _, y in positions]
  for (target, source, operation), bend, strength in zip(cell.edges, _edge_bends(cell), strengths, strict=True):
    start, end = positions[source], positions[target]
    color, width = operation_color(operation), 0.8 + 4 * strength / strongest
    _draw_arrow(axes, start, end, bend, color=color, linewidth=width, mutation_scale=12, zorder=1)
    middle = _arrow_middle(start, end, bend)
    text = operation if end[0] - start[0] > 1.5 else operation.replace('_', '\n')
    box = {'boxstyle': 'round,pad=0.15', 'facecolor': 'white', 'edgecolor': color, 'linewidth': 0.8}
    _write(axes, middle, text, fontsize=8, zorder=2, box=box)
    heights.append(middle[1])
  output = len(positions) - 1
  for node in cell.concat:
    start, end, bend = positions[node], positions[output], 0.12 * (output - node - 1)
    _draw_arrow(axes, start, end, bend, linestyle=':', color='#999999', linewidth=0.8, mutation_scale=9, zorder=0)
  for name, position in zip(node_names(cell.num_inputs, len(cell.nodes)), positions, strict=True):
    box = {'boxstyle': 'circle,pad=0.35', 'facecolor': '#eef2f6', 'edgecolor': '#445566'}
    _write(axes, position, name, fontsize=10, zorder=3, box=box)
  xs = [x for x, _ in positions]
  axes.set(xlim=(min(xs) - 0.6, max(xs) + 0.6), ylim=(min(heights) - 0.5, max(heights) + 0.5))
  figure.set_size_inches(np.ptp(axes.get_xlim()), np.ptp(axes.get_ylim()))
  axes.axis('off')
  return figure


def node_names(num_inputs: int, num_nodes: int) -> list[str]:
  """Returns the names of a cell's nodes: in, 1, …, out (NAS-Bench-201) or k−2, k−1, 1, …, out (the DARTS family)."""
  between = [str(i + 1) for i in range(num_nodes)]
  return ['in', *between[:-1], 'out'] if num_inputs == 1 else ['k−2', 'k−1', *between, 'out']


def _node_positions(cell: Cell) -> list[Point]:
  """Returns the position of each node: inputs, intermediate nodes, and the output if the cell concatenates nodes."""
  inputs = [(0.0, 0.0)] if cell.num_inputs == 1 else [(-0.6, -1.1), (-0.6, 1.1)]
  num_others = len(cell.nodes) + bool(cell.concat)
  return inputs + [(NODE_DISTANCE * (i + 1), 0.0) for i in range(num_others)]


def _edge_bends(cell: Cell) -> list[float]:
  """Returns the curvature of each edge's arrow, `rad` of matplotlib's arc3, so that few arrows meet."""
  bends = []
  sides: dict[int, int] = {}  # arrows of the same length alternate between above and below
  for target, source, _ in cell.edges:
    length = target - source
    if cell.num_inputs == 2 and source < 2:
      bends.append(-0.25 if source else 0.25)
    elif length == 1:
      bends.append(0.0)
    else:
      sides[length] = -sides.get(length, -1 if length % 2 else 1)
      bends.append(sides[length] * min(0.45, 0.2 + 0.08 * length))
  return bends


def _arrow_middle(start: Point, end: Point, bend: float) -> Point:
  """Returns the point half-way along an arrow, which is a quadratic Bézier curve."""
  (x0, y0), (x1, y1) = start, end
  return (x0 + x1) / 2 + (y1 - y0) * bend / 2, (y0 + y1) / 2 + (x0 - x1) * bend / 2


def _draw_arrow(axes: Axes, start: Point, end: Point, bend: float, **style) -> None:
  style |= {'shrinkA': 13, 'shrinkB': 13}  # points between the center of a node and the arrow
  axes.add_patch(FancyArrowPatch(start, end, connectionstyle=f'arc3,rad={bend}', arrowstyle='-|>', **style))


def _write(axes: Axes, position: Point, text: str, fontsize: int, zorder: int, box: dict) -> None:
  axes.annotate(text, position, ha='center', va='center', fontsize=fontsize, bbox=box, zorder=zorder)

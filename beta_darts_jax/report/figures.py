"""Figures of runs, drawn by matplotlib from the rows of metrics.jsonl."""

import dataclasses
import math
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from beta_darts_jax.spaces.genotype import Cell
from beta_darts_jax.spaces.nas_bench_201 import DATASETS
from beta_darts_jax.spaces.space import SearchSpace

Dashes = Literal['-', '--', '-.', ':']
COLORS = tuple(map(matplotlib.colors.to_hex, matplotlib.color_sequences['tab10']))
OPERATIONS = {  # an operation has its colour on every page
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


@dataclasses.dataclass(frozen=True)
class Curve:
  """One search or training among those of a figure.

  Attributes:
    label: what the legend calls it; curves of one label have one colour.
    rows: of metrics.jsonl, epoch by epoch.
  """

  label: str
  rows: list[dict]

  def values(self, name: str) -> tuple[list[int], list[float]]:
    """(epochs from 1, values) of the rows that have `name`; dots go into groups."""
    found = []
    for row in self.rows:
      value: Any = row
      for part in name.split('.'):
        value = value.get(part) if isinstance(value, dict) else None
      if value is not None:
        found.append((row['epoch'] + 1, value))
    return [epoch for epoch, _ in found], [value for _, value in found]


def colors_of(curves: list[Curve]) -> dict[str, str]:
  """{label: colour}."""
  labels = list(dict.fromkeys(curve.label for curve in curves))
  return {label: COLORS[i % len(COLORS)] for i, label in enumerate(labels)}


def color_of(operation: str) -> str:
  """The colour of an operation; of one that is not in OPERATIONS, one that its name decides."""
  return OPERATIONS.get(operation) or COLORS[sum(operation.encode()) % len(COLORS)]


# ---- of a cell ----


def cell(drawn: Cell, strengths: list[float] | None = None) -> Figure:
  """A cell as a graph: nodes from left to right, an arrow an edge, as thick as it is strong.

  Args:
    drawn: the cell.
    strengths: β of every edge's operation, in the order of `drawn.edges`; None: all alike.
  """
  inputs, count = drawn.num_inputs, len(drawn.nodes)
  last = inputs + count
  names = node_names(inputs, count)
  at = {node: (2.2 * (node - inputs + 1), 0.0) for node in range(inputs, last)}
  at |= {0: (0.0, 0.0)} if inputs == 1 else {0: (-0.6, -1.1), 1: (-0.6, 1.1)}
  if drawn.concat:
    at[last] = (2.2 * (count + 1), 0.0)
  figure = Figure(layout='constrained')
  axes = figure.subplots()
  axes.set_aspect('equal')  # arcs bend in pixels, labels stand in data
  strengths = strengths or [1.0] * len(drawn.edges)
  widest = max(*strengths, 1e-9)
  side: dict[int, int] = {}
  tops = [y for _, y in at.values()]
  for (target, source, operation), strength in zip(drawn.edges, strengths, strict=True):
    distance = at[target][0] - at[source][0]
    if inputs == 2 and source < 2:
      bend = 0.25 * (-1 if source else 1)
    else:
      span = target - source
      side[span] = -side.get(span, -1 if span % 2 else 1)
      bend = 0.0 if span == 1 else side[span] * min(0.45, 0.2 + 0.08 * span)
    color = color_of(operation)
    axes.add_patch(
      FancyArrowPatch(
        at[source], at[target], connectionstyle=f'arc3,rad={bend}', arrowstyle='-|>', mutation_scale=12, shrinkA=13,
        shrinkB=13, color=color, linewidth=0.8 + 4 * strength / widest, zorder=1,
      )
    )  # fmt: skip
    middle = np.add(at[source], at[target]) / 2
    across = np.array([at[target][1] - at[source][1], at[source][0] - at[target][0]])
    label = middle + across * bend / 2  # where a quadratic Bézier curve is half-way
    tops.append(label[1])
    axes.annotate(
      operation if distance > 1.5 else operation.replace('_', '\n'), tuple(label), ha='center', va='center', fontsize=8,
      color='black', bbox={'boxstyle': 'round,pad=0.15', 'facecolor': 'white', 'edgecolor': color, 'linewidth': 0.8},
      zorder=2,
    )  # fmt: skip
  if drawn.concat:
    for node in drawn.concat:
      axes.add_patch(
        FancyArrowPatch(
          at[node], at[last], connectionstyle=f'arc3,rad={0.12 * (last - node - 1)}', arrowstyle='-|>', linestyle=':',
          mutation_scale=9, shrinkA=13, shrinkB=13, color='#999999', linewidth=0.8, zorder=0,
        )
      )  # fmt: skip
  for node, name in enumerate(names):
    axes.annotate(
      name, at[node], ha='center', va='center', fontsize=10, zorder=3,
      bbox={'boxstyle': 'circle,pad=0.35', 'facecolor': '#eef2f6', 'edgecolor': '#445566'},
    )  # fmt: skip
  xs = [x for x, _ in at.values()]
  axes.set(xlim=(min(xs) - 0.6, max(xs) + 0.6), ylim=(min(tops) - 0.5, max(tops) + 0.5))
  width, height = np.ptp(axes.get_xlim()), np.ptp(axes.get_ylim())
  figure.set_size_inches(width, height)
  axes.axis('off')
  return figure


def node_names(inputs: int, nodes: int) -> list[str]:
  """What the nodes of a cell are called: in, 1, …, out (NAS-Bench-201); k−2, k−1, 1, …, out (the DARTS family)."""
  between = [str(i + 1) for i in range(nodes)]
  return ['in', *between[:-1], 'out'] if inputs == 1 else ['k−2', 'k−1', *between, 'out']


def betas(curve: Curve, space: SearchSpace, cell_type: str) -> Figure:
  """β of every edge over the epochs, as bands that add up to one; it starts uniform, but for 1e-3."""
  rows = [row for row in curve.rows if row.get('betas')]
  epochs = [0] + [row['epoch'] + 1 for row in rows]
  start = np.full(space.alpha_shape, 1.0)
  values = np.array([start] + [row['betas'][cell_type] for row in rows])  # [1 + epochs, E, O]
  columns = 3 if len(space.edges) <= 6 else 5
  lines = math.ceil(len(space.edges) / columns)
  figure = Figure(figsize=(9.6, 1.9 * lines + 0.5), layout='constrained')
  grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
  handles: dict[str, Artist] = {}
  called = node_names(space.num_inputs, space.nodes)
  for e, (target, source) in enumerate(space.edges):
    names = space.candidates(cell_type)[e]
    shares = values[:, e] / values[:, e].sum(axis=-1, keepdims=True)
    bands = grid[e].stackplot(epochs, shares.T, colors=list(map(color_of, names)), linewidth=0)
    handles |= dict(zip(names, bands, strict=True))
    grid[e].set_title(f'{called[source]} → {called[target]}', fontsize=9)
    grid[e].set(xlim=(0, epochs[-1]), ylim=(0, 1))
    grid[e].tick_params(labelsize=8)
    grid[e].xaxis.get_major_locator().set_params(integer=True)
  for unused in grid[len(space.edges) :]:
    unused.axis('off')
  figure.supxlabel('epoch', fontsize=9)
  figure.legend(
    list(handles.values()), list(handles), loc='outside upper center', ncols=min(7, len(handles)), fontsize=8
  )
  return figure


# ---- of several searches or trainings ----


def panels(curves: list[Curve], wanted: list[tuple[str, list[tuple[str, Dashes]]]], references=None) -> Figure | None:
  """Panels of lines over the epochs; those for which no row has a value are left out, None if all are.

  Args:
    curves: what is drawn.
    wanted: (title, [(name of a value, dash style)]) of every panel; of several values the style tells which.
    references: {title: {name: height}}, dotted lines.
  """
  has = lambda curve, names: any(curve.values(name)[0] for name, _ in names)
  wanted = [(title, names) for title, names in wanted if any(has(curve, names) for curve in curves)]
  if not wanted:
    return None
  columns = min(3, len(wanted))
  lines = math.ceil(len(wanted) / columns)
  figure = Figure(figsize=(3.3 * columns + 0.3, 2.7 * lines + 0.3), layout='constrained')
  grid = figure.subplots(lines, columns, squeeze=False).ravel()
  colors = colors_of(curves)
  for axes, (title, names) in zip(grid, wanted, strict=False):
    for curve in curves:
      for name, style in names:
        epochs, values = curve.values(name)
        few = {'marker': 'o', 'markersize': 3} if len(epochs) < 3 else {}
        axes.plot(epochs, values, color=colors[curve.label], linestyle=style, linewidth=1.2, alpha=0.85, **few)
    for name, height in (references or {}).get(title, {}).items():
      axes.axhline(height, color='gray', linestyle=':', linewidth=1)
      axes.annotate(name, (0.02, height), xycoords=('axes fraction', 'data'), fontsize=7, color='gray', va='top')
    if len(names) > 1:
      used = [(name, style) for name, style in names if any(curve.values(name)[0] for curve in curves)]
      lines_of = [matplotlib.lines.Line2D([], [], color='gray', linestyle=style) for _, style in used]
      axes.legend(lines_of, [name.rpartition('.')[2].replace('_', ' ') for name, _ in used], fontsize=7)
    axes.set_title(title, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.xaxis.get_major_locator().set_params(integer=True)
    drawn = [value for curve in curves for name, _ in names for value in curve.values(name)[1]]
    if all(isinstance(value, int) for value in drawn):  # a count, as of skips
      axes.yaxis.get_major_locator().set_params(integer=True)
      axes.set_ylim(-0.2, max(*drawn, 1) + 0.2)
  for unused in grid[len(wanted) :]:
    unused.axis('off')
  figure.supxlabel('epoch', fontsize=9)
  if len(colors) > 1:
    labels = list(dict.fromkeys(curve.label for curve in curves if any(has(curve, names) for _, names in wanted)))
    handles = [matplotlib.lines.Line2D([], [], color=colors[label]) for label in labels]
    figure.legend(handles, labels, loc='outside upper center', ncols=min(4, len(labels)), fontsize=8)
  return figure


def training(curves: list[Curve]) -> Figure | None:
  """Losses and accuracies."""
  return panels(
    curves,
    [
      ('loss, nats', [('train_loss', '-'), ('alpha_loss', ':'), ('valid_loss', '--'), ('test_loss', '-.')]),
      ('accuracy', [(f'{name}_accuracy', s) for name, s in _STYLES.items()]),
      ('learning rate', [('learning_rate', '-')]),
    ],
  )


_STYLES: dict[str, Dashes] = {'train': '-', 'alpha': ':', 'valid': '--', 'test': '-.'}


def architecture(curves: list[Curve]) -> Figure | None:
  """How far α is from uniform, what Beta-Decay weighs, and how many skips the cell has."""
  with_spread = [Curve(c.label, [row | {'spread': _spread(row)} for row in c.rows]) for c in curves]
  return panels(
    with_spread,
    [
      ('spread of α (σ over operations, mean over edges)', [('spread', '-')]),
      ('λ of Beta-Decay', [('beta_decay_weight', '-')]),
      ('skip connections of the (normal) cell', [('skips', '-')]),
    ],
  )


def _spread(row):
  if not row.get('betas'):
    return None
  logits = np.log(np.maximum(np.concatenate(list(map(np.asarray, row['betas'].values()))), 1e-12))
  return float(logits.std(axis=-1).mean())


def benchmark(curves: list[Curve]) -> Figure | None:
  """The benchmark's test accuracy of each epoch's cell, beside the best there is."""
  references = {}
  for dataset in DATASETS:
    for curve in curves:
      for row in curve.rows:
        if known := row.get('benchmark'):
          best = known[f'{dataset}_test'] + known[f'{dataset}_test_regret']
          references[f'{dataset}, test, %'] = {'optimum': best}
  return panels(curves, [(f'{d}, test, %', [(f'benchmark.{d}_test', '-')]) for d in DATASETS], references)


def measured(curves: list[Curve]) -> Figure | None:
  """The diagnostics of a search."""
  reduced = [Curve(c.label, [row | {'of': _reduced(row.get('diagnostics') or {})} for row in c.rows]) for c in curves]
  return panels(
    reduced,
    [
      ('entropy of β, nats', [('of.entropy', '-')]),
      ('variance of β', [('of.variance', '-')]),
      ('largest eigenvalue of ∇²L in α', [('of.eigenvalue', '-')]),
      ('supernet accuracy', [('of.continuous', '-'), ('of.discrete', '--')]),
      ('Kendall τ with the benchmark', [('of.one_shot', '-'), ('of.parameters', '--')]),
    ],
  )


def _reduced(found):
  reduced = {}
  for name, short in (('entropies', 'entropy'), ('variances', 'variance')):
    if name in found:
      reduced[short] = float(np.mean(np.concatenate([np.ravel(values) for values in found[name].values()])))
  if found.get('eigenvalues'):
    reduced['eigenvalue'] = max(found['eigenvalues'], key=abs)
  reduced |= {x: found[f'{x}_accuracy'] for x in ('continuous', 'discrete') if f'{x}_accuracy' in found}
  return reduced | {name: tau['tau'] for name, tau in (found.get('kendall_tau') or {}).items()}


def throughput(curves: list[Curve]) -> Figure | None:
  """Images and seconds."""
  figure = panels(
    curves, [('images a second, training', [('images_per_second', '-')]), ('seconds an epoch', [('seconds', '-')])]
  )
  for axes in figure.axes if figure else ():
    axes.set_ylim(bottom=0)
  return figure

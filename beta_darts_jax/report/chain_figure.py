"""The drawing of a chain of stages, and of any genotype."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from beta_darts_jax.report.cell_figure import draw_cell, operation_color
from beta_darts_jax.spaces.genotype import Cell, Genotype
from beta_darts_jax.spaces.skeletons import Place

CELL_NAMES = {'nas_bench_201': ('cell',), 'darts': ('normal cell', 'reduction cell')}  # by skeleton
WIDTH, HEIGHT = 1.35, 0.45  # of a place for a box, in inches


def draw_chain(stages: Sequence[Cell], tips: Mapping[Place, str] | None = None, has_texts: bool = True) -> Figure:
  """Draws a chain as boxes: a row for each stage, from top to bottom. One unit of its axes is one inch.

  Args:
    stages: the stages of the genotype.
    tips: a text per layer, which the page shows when the pointer is on the box.
    has_texts: whether the boxes name their operations.
  """
  figure = Figure(figsize=(WIDTH * max(len(stage.operations) for stage in stages), HEIGHT * len(stages)))
  axes = figure.add_axes((0, 0, 1, 1))
  for row, stage in enumerate(stages):
    for target, source, operation in stage.edges:
      x, y = WIDTH * (source + 0.5), -HEIGHT * (row + 0.5)
      tip = (tips or {}).get(Place(row, target, source), f'stage {row + 1}, layer {target}: {operation}')
      box = {'boxstyle': 'round,pad=0.25', 'edgecolor': operation_color(operation), 'facecolor': 'white'}
      text = operation if has_texts else ' ' * 12
      axes.annotate(text, (x, y), ha='center', va='center', fontsize=8, bbox=box, gid=f'tip:{tip}', zorder=2)
      if source:
        arrow = FancyArrowPatch((x - WIDTH, y), (x, y), arrowstyle='-', color='#999999', zorder=1)
        axes.add_patch(arrow)
  axes.set(xlim=(0, figure.get_figwidth()), ylim=(-figure.get_figheight(), 0))
  axes.axis('off')
  return figure


def draw_genotype(genotype: Genotype, has_texts: bool = True) -> dict[str, Figure]:
  """Draws each cell of a genotype, or the whole chain: {name: figure}."""
  if genotype.skeleton == 'mobile':
    return {'chain': draw_chain(genotype.cells, has_texts=has_texts)}
  named = zip(CELL_NAMES[genotype.skeleton], genotype.cells, strict=True)
  return {name: draw_cell(cell, has_texts=has_texts) for name, cell in named}

"""The figures show the numbers of the rows."""

import numpy as np
import pytest
from example_run import BETAS, CELL, make_row

from beta_darts_jax import NAS_BENCH_201
from beta_darts_jax.report import figures
from beta_darts_jax.report.cell_figure import draw_cell
from beta_darts_jax.report.figures import Curve, draw_panels
from beta_darts_jax.spaces.genotype import Genotype
from beta_darts_jax.spaces.published import PUBLISHED

ROWS = [make_row(epoch) for epoch in range(3)]
NAMES = ('NASNET', 'AMOEBANET', 'DARTS_V2', 'SNAS', 'P_DARTS', 'PC_DARTS_CIFAR', 'GDAS', 'FAIR_DARTS_A')
GENOTYPES = {'NAS-Bench-201': Genotype.parse(CELL), **{name: PUBLISHED[name] for name in NAMES}}


def test_bands_have_the_heights_of_beta():
  axes = figures.betas(ROWS, NAS_BENCH_201, 'cell').axes[4]
  vertices = [band.get_paths()[0].vertices[:, 1] for band in axes.collections]
  heights = np.cumsum(np.concatenate([np.full((1, 5), 0.2), BETAS[:, 4]]), axis=1)  # [1 + epochs, O]
  for o, of_band in enumerate(vertices):
    assert set(np.round(heights[:, o], 6)) <= set(np.round(of_band, 6))


def test_lines_have_the_numbers_of_the_rows():
  axes = draw_panels([Curve('a', ROWS), Curve('b', ROWS[:2])], figures.TRAINING).axes[0]
  first, last = axes.get_lines()[0], axes.get_lines()[-1]
  np.testing.assert_array_equal(first.get_xydata(), [[1, 2.0], [2, 1.0], [3, 0.0]])
  assert first.get_color() != last.get_color()
  curves = [Curve('a', ROWS[:1])]
  benchmark = draw_panels(curves, figures.benchmark_panels(curves))
  optima = [axes.get_lines()[-1].get_ydata()[0] for axes in benchmark.axes]
  assert optima == [93.0] * 3
  eigenvalues = draw_panels([Curve('a', ROWS)], figures.DIAGNOSTICS).axes[1].get_lines()[0].get_ydata()
  np.testing.assert_array_equal(eigenvalues, [-2.0] * 3)
  assert draw_panels([Curve('a', [{'epoch': 0}])], figures.DIAGNOSTICS) is None


def test_legend_names_only_the_curves_with_values():
  trained = [{'epoch': epoch, 'train_loss': 1.0, 'test_loss': 2.0} for epoch in range(3)]
  curves = [Curve('search', ROWS), Curve('other', ROWS), Curve('training', trained)]

  def labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]

  assert labels(draw_panels(curves, figures.ARCHITECTURE)) == ['search', 'other']
  assert labels(draw_panels(curves, figures.TRAINING)) == ['search', 'other', 'training']


@pytest.mark.parametrize('name', ['NAS-Bench-201', 'DARTS_V2'])
def test_cell_has_one_arrow_per_edge_with_the_width_of_its_strength(name):
  cell = GENOTYPES[name].normal
  strengths = [0.1 * (e + 1) for e in range(len(cell.edges))]
  axes = draw_cell(cell, strengths).axes[0]
  widths = np.array([arrow.get_linewidth() for arrow in axes.patches[: len(cell.edges)]])
  np.testing.assert_allclose(widths - 0.8, 4 * np.array(strengths) / strengths[-1])
  assert len(axes.patches) == len(cell.edges) + len(cell.concat)
  texts = [text.get_text().replace('\n', '_') for text in axes.texts]
  assert sorted(cell.operations) == sorted(text for text in texts if '_' in text or text == 'none')


@pytest.mark.parametrize('name', GENOTYPES)
def test_labels_are_on_their_arrows_and_arrows_inside_the_picture(name):
  for cell in GENOTYPES[name].cells:
    figure = draw_cell(cell)
    figure.canvas.draw()
    axes = figure.axes[0]
    for arrow, text in zip(axes.patches, axes.texts[: len(cell.edges)], strict=False):
      path = arrow.get_path().transformed(axes.transData)
      assert path.intersects_bbox(text.get_window_extent(), filled=False), text.get_text()
      extents = path.get_extents()
      assert axes.bbox.x0 <= extents.x0 < extents.x1 <= axes.bbox.x1
      assert axes.bbox.y0 <= extents.y0 < extents.y1 <= axes.bbox.y1

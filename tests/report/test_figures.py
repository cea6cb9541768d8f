"""The figures show the numbers of the rows."""

import json

import numpy as np
import pytest
from example_run import BETAS, CELL, make_row

from beta_darts_jax import DARTS_WITH_NONE, NAS_BENCH_201
from beta_darts_jax.report import figures
from beta_darts_jax.report.cell_figure import draw_cell
from beta_darts_jax.report.figures import Curve, Point
from beta_darts_jax.spaces.genotype import Genotype
from beta_darts_jax.spaces.published import PUBLISHED

ROWS = [make_row(epoch) for epoch in range(3)]
NAMES = ('NASNET', 'AMOEBANET', 'DARTS_V2', 'SNAS', 'P_DARTS', 'PC_DARTS_CIFAR', 'GDAS', 'FAIR_DARTS_A')
GENOTYPES = {'NAS-Bench-201': Genotype.parse(CELL), **{name: PUBLISHED[name] for name in NAMES}}


def test_a_panel_has_the_lead_of_the_first_operation_and_a_flip_is_another_color():
  betas = [[0.1, 0.2, 0.4, 0.2, 0.1], [0.1, 0.5, 0.3, 0.1, 0.0], [0.1, 0.6, 0.1, 0.1, 0.1]]  # of edge 4
  rows = [make_row(epoch) for epoch in range(3)]
  for row, beta in zip(rows, betas, strict=True):
    row['betas'] = {'cell': BETAS[0].tolist()}
    row['betas']['cell'][4] = beta
  axes = figures.draw_leads(rows, NAS_BENCH_201, 'cell')[4].axes[0]
  first, second = NAS_BENCH_201.candidates('cell')[4][2], NAS_BENCH_201.candidates('cell')[4][1]
  heights = {step.get_label(): step.get_data().values for step in axes.patches}
  np.testing.assert_allclose(heights[first], [0.2, 0, 0])
  np.testing.assert_allclose(heights[second], [0, 0.2, 0.5])
  assert '1 flip' in axes.get_title()
  texts = json.loads(axes.get_gid().removeprefix('hover:'))['texts']
  lines = texts['2'].split('\n')
  assert lines[0] == f'{second} leads {first} by 0.2000'
  assert lines[1:] == [f'{NAS_BENCH_201.candidates("cell")[4][o]} β {betas[1][o]:.4f}' for o in (1, 2, 0, 3, 4)]


def test_none_does_not_lead_in_a_darts_cell_but_in_one_of_the_benchmark():
  for space, first in ((DARTS_WITH_NONE, 'max_pool_3x3'), (NAS_BENCH_201, 'none')):
    edges, operations = space.alpha_shape
    leads = figures.find_leads(space, space.cell_types[0], [np.tile(np.arange(operations, 0, -1), (edges, 1))])
    assert set(leads.first.ravel()) == {first} and (leads.lead == 1).all()


def test_lines_have_the_numbers_of_the_rows():
  axes = figures.draw_panel(figures.TRAINING[0], [Curve('a', ROWS), Curve('b', ROWS[:2])]).axes[0]
  first, last = axes.get_lines()[0], axes.get_lines()[-1]
  np.testing.assert_array_equal(first.get_xydata(), [[1, 2.0], [2, 1.0], [3, 0.0]])
  assert first.get_color() != last.get_color()
  texts = json.loads(axes.get_gid().removeprefix('hover:'))['texts']
  assert 'b train loss 1' in texts['2'] and 'b ' not in texts['3']
  curves = [Curve('a', ROWS[:1])]
  benchmark = [figures.draw_panel(panel, curves).axes[0] for panel in figures.benchmark_panels(curves)]
  assert [axes.get_lines()[-1].get_ydata()[0] for axes in benchmark] == [93.0] * 3
  eigenvalues = figures.draw_panel(figures.DIAGNOSTICS[2], curves).axes[0].get_lines()[0].get_ydata()
  np.testing.assert_array_equal(eigenvalues, [-2.0])


def test_the_panel_of_the_weights_has_those_that_are_not_0():
  rows = {
    'no own weight': [make_row(1)],
    'spread': [make_row(0, regularizer_weights={'spread_weight': 2.0})],
    'both': [make_row(1, regularizer_weights={'spread_weight': 2.0, 'cost_weight': 0.0})],
    'all 0': [make_row(0, regularizer_weights={'spread_weight': 0.0})],
  }
  panels = {name: figures.architecture_panels([Curve('a', of_run)])[1] for name, of_run in rows.items()}
  names = {name: list(panel.lines) for name, panel in panels.items()}
  beta = 'beta_decay_weight'
  assert names == {
    'no own weight': [beta],
    'spread': ['spread_weight'],
    'both': [beta, 'spread_weight'],
    'all 0': [beta],
  }
  lines = figures.draw_panel(panels['both'], [Curve('a', rows['both'])]).axes[0].get_lines()
  assert [line.get_ydata()[0] for line in lines] == [1.0, 2.0]


def test_the_front_has_the_points_that_are_more_accurate_than_all_cheaper_ones():
  points = [Point('', cost, accuracy) for cost, accuracy in ((3, 90), (1, 80), (2, 70), (1, 60), (4, 90), (5, 95))]
  groups = {'cheap': points[:3], 'dear': points[3:]}
  axes = figures.draw_front(groups, {'cheap': 'C0', 'dear': 'C1'}, 'accuracy', 'cost').axes[0]
  *dots, front = axes.get_lines()
  assert [dot.get_color() for dot in dots] == ['C0'] * 3 + ['C1'] * 3
  assert front.get_xydata().tolist() == [[1, 80], [3, 90], [5, 95]]


def test_dots_are_the_searches_and_bars_their_means_with_standard_deviation():
  points = [Point('', value, accuracy) for value, accuracy in ((5.0, 4.0), (0.0, 1.0), (0.0, 3.0))]
  axes = figures.draw_values('λ', points, 'accuracy').axes[0]
  dots = [line.get_ydata()[0] for line in axes.get_lines() if line.get_marker() == 'o']
  assert dots == [1.0, 3.0, 4.0] and [tick.get_text() for tick in axes.get_xticklabels()] == ['0', '5']
  means = [bar.lines[0].get_ydata()[0] for bar in axes.containers]
  assert means == [2.0, 4.0]
  (segment,) = axes.containers[0].lines[2][0].get_segments()
  np.testing.assert_allclose(segment[:, 1], [2 - 2**0.5, 2 + 2**0.5])


@pytest.mark.parametrize('name', ['NAS-Bench-201', 'DARTS_V2'])
def test_cell_has_one_arrow_per_edge_with_the_width_of_its_strength(name):
  cell = GENOTYPES[name].normal
  strengths = [0.1 * (e + 1) for e in range(len(cell.edges))]
  axes = draw_cell(cell, strengths).axes[0]
  widths = np.array([arrow.get_linewidth() for arrow in axes.patches[: len(cell.edges)]])
  exists = [operation != 'none' for operation in cell.operations]
  np.testing.assert_allclose(widths - 0.8, 4 * np.array(strengths) / strengths[-1] * exists)
  assert len(axes.patches) == len(cell.edges) + len(cell.concat)
  texts = [text.get_text() for text in axes.texts]
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

"""Draws the pictures of the README from a kept run: python docs/images/make.py

official_beta_darts_0.jsonl has rows of metrics.jsonl of one search, cut to what is drawn. It is β-DARTS on CIFAR-10
with the official protocol (C=16, N=5, 32×32 images, λ as in the 100 epochs), seed 0, by commit 48735b7 on a CPU. The
run has not finished: the rows are its first epochs. Needs pip install '.[report]'.
"""

import json
import pathlib

import matplotlib

from beta_darts_jax import NAS_BENCH_201, Genotype
from beta_darts_jax.report.cell_figure import draw_cell
from beta_darts_jax.report.figures import Curve, Panel, draw_panel, find_leads

FOLDER = pathlib.Path(__file__).parent
ROWS = FOLDER / 'official_beta_darts_0.jsonl'


def main() -> None:
  """Writes cell.svg and accuracy.svg."""
  rows = [json.loads(line) for line in ROWS.read_text().splitlines()]
  save(draw_last_cell(rows), 'cell.svg')
  save(draw_accuracy(rows), 'accuracy.svg')


def draw_last_cell(rows):
  """Draws the cell of the last row; a wide arrow has a large lead in β over the second operation."""
  last = rows[-1]
  (cell,) = Genotype.parse(last['genotype']).cells
  leads = find_leads(NAS_BENCH_201, 'cell', [last['betas']['cell']]).lead[0]
  return draw_cell(cell, [float(leads[NAS_BENCH_201.edges.index(edge[:2])]) for edge in cell.edges])


def draw_accuracy(rows):
  """Draws the accuracy that the benchmark gives for the cell of each epoch."""
  numbers = rows[-1]['benchmark']
  optimum = numbers['cifar10_test'] + numbers['cifar10_test_regret']
  return draw_panel(
    Panel('CIFAR-10 test accuracy of the cell, %', {'cifar10_test': '-'}, optimum), [Curve('β-DARTS', rows)]
  )


def save(figure, name: str) -> None:
  """Writes a figure as SVG with a white background."""
  with matplotlib.rc_context({'svg.hashsalt': name}):  # the same file each time
    figure.savefig(FOLDER / name, facecolor='white', metadata={'Date': None})


if __name__ == '__main__':
  main()

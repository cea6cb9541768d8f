"""The tabular benchmark NAS-Bench-201 (Dong & Yang, ICLR 2020): a cell → its published accuracies.

The project does not ship the table. Export it once from the published NATS-Bench files, then query it:

  python -m beta_darts_jax.spaces.nas_bench_201 export --natsbench DIR --out table.csv
  python -m beta_darts_jax.spaces.nas_bench_201 query --table table.csv runs/digits-digits-0
  python -m beta_darts_jax.spaces.nas_bench_201 query --table table.csv '|nor_conv_3x3~0|+…'
"""

from beta_darts_jax.spaces.nas_bench_201.table import (
  ACCURACIES,
  DATASETS,
  HOW_TO_GET,
  NUM_CELLS,
  NasBench201,
  Row,
  covers,
  find_table,
)

__all__ = ['ACCURACIES', 'DATASETS', 'HOW_TO_GET', 'NUM_CELLS', 'NasBench201', 'Row', 'covers', 'find_table']

"""The proxy of the studies, frozen after the pilot and before any result of β-DARTS at it.

  python -m beta_darts_jax.main --config studies/proxy.py[:METHOD]

The cheapest setting of the pilot in which plain DARTS collapses in both pilot seeds: all 50,000 images of CIFAR-10 at
16×16, C=16, N=2, 10 epochs = 3,900 steps of batch 64, α's rate η = 1e-2, and α's times matched to the official run's:
λ_max = 50·S·η/11.73 = 166.24, b2 = 1 − 39.1/S. METHOD is one of those of configs/nas_bench_201.py.
"""

import pathlib
import runpy


def get_config(method='beta_darts', dataset='cifar10'):
  nas_bench_201 = runpy.run_path(str(pathlib.Path(__file__).parents[1] / 'configs' / 'nas_bench_201.py'))
  config = nas_bench_201['get_config'](f'{dataset},proxy,{method}')
  config.name = f'studies_{method}'
  config.supernet.cells_per_stage = 2
  config.search.alpha_learning_rate = 1e-2
  nas_bench_201['match_alpha_time'](config, nas_bench_201['_TRAIN_IMAGES'][dataset])
  config.benchmark.kendall_cells = 0
  return config

"""The proxy of the studies: a small search, chosen by the pilot before any result of β-DARTS was known.

  python -m beta_darts_jax.main --config studies/proxy.py[:METHOD]

It is the cheapest setting of the pilot in which plain DARTS collapses with both pilot seeds: all 50,000 images of
CIFAR-10 at 16×16, C=16, N=2, 10 epochs = 3,900 steps of batch 64, and the learning rate of α η = 1e-2. The time scales
of α match the official run: λ_max = 50·S·η/11.73 = 166.24 and b2 = 1 − 39.1/S for S steps. METHOD is a method of
configs/nas_bench_201.py. Run it from the project's root.
"""

from configs import nas_bench_201


def get_config(method='beta_darts', dataset='cifar10'):
  config = nas_bench_201.get_config(f'{dataset},proxy,{method}')
  config.name = f'studies_{method}'
  config.supernet.cells_per_stage = 2
  config.search.alpha_learning_rate = 1e-2
  nas_bench_201.match_alpha_time(config, nas_bench_201.TRAIN_IMAGES[dataset])
  config.benchmark.kendall_cells = 0
  return config

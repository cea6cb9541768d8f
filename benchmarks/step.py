"""Compile seconds and seconds a step of the networks at their official size, on whatever device there is.

  python benchmarks/step.py nas_bench_201_supernet|darts_supernet|cifar_network [--scan-edges] [--steps N] [--devices N]

Prints a row for benchmarks/README.md. On CPU a virtual device a core shares the batch unless --devices says otherwise.
"""

import argparse
import os
import platform
import time

import jax

PROGRAMS = ('nas_bench_201_supernet', 'darts_supernet', 'cifar_network')


def arguments():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('program', choices=PROGRAMS)
  parser.add_argument('--scan-edges', action='store_true', help='of the NAS-Bench-201 supernet')
  parser.add_argument('--steps', type=int, default=3)
  parser.add_argument('--devices', type=int, default=0)
  return parser.parse_args()


def search_program(space, **sizes):
  """(bilevel step of (state, batch), its state)."""
  import beta_darts_jax as bd

  supernet = bd.Supernet(space, 10, **sizes)
  alphas = space.init_alphas(jax.random.key(0))
  images = jax.numpy.zeros((1, 32, 32, 3))
  variables = jax.jit(supernet.init)(jax.random.key(1), images, bd.softmax_betas(alphas))
  step = bd.make_search_step(supernet)
  return lambda state, batch: step(state, batch, batch, bd.Hyperparameters())[0], bd.SearchState.create(
    variables, alphas
  )


def training_program():
  """(training step of (state, batch), its state): 20 cells, C=36, auxiliary head, drop path."""
  from beta_darts_jax import Network, training
  from beta_darts_jax.config import default_retrain
  from beta_darts_jax.genotype import published

  recipe = default_retrain().train.to_dict()
  network = Network(published()['DARTS_V2'], 10, auxiliary=True)
  step = training.make_train_step(network, recipe, auxiliary_weight=0.4)
  state = jax.jit(lambda seed: training.create_state(network, (32, 32, 3), recipe, seed))(0)
  return lambda state, batch: step(state, *batch, 0.025, 0.1), state


def main():
  options = arguments()
  jax.config.update('jax_num_cpu_devices', options.devices or len(os.sched_getaffinity(0)))
  from jax.sharding import NamedSharding, PartitionSpec

  from beta_darts_jax import DARTS, NAS_BENCH_201
  from beta_darts_jax.environment import make_mesh

  batch_size = 96 if options.program == 'cifar_network' else 64
  if options.program == 'nas_bench_201_supernet':
    step, state = search_program(NAS_BENCH_201, unroll_edges=not options.scan_edges)
  elif options.program == 'darts_supernet':
    step, state = search_program(DARTS)
  else:
    step, state = training_program()
  mesh = make_mesh(options.devices, batch_size)
  images = jax.random.normal(jax.random.key(2), (batch_size, 32, 32, 3))
  batch = images, jax.numpy.arange(batch_size) % 10
  batch = jax.device_put(batch, NamedSharding(mesh, PartitionSpec('data')))
  state = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))

  chunk = lambda state, batch: jax.lax.fori_loop(0, options.steps, lambda i, state: step(state, batch), state)
  begun = time.perf_counter()
  lowered = jax.jit(chunk).lower(state, batch)
  traced = time.perf_counter() - begun
  program = lowered.compile()
  compiled = time.perf_counter() - begun - traced
  jax.block_until_ready(program(state, batch))
  seconds = []
  for _ in range(3):
    begun = time.perf_counter()
    jax.block_until_ready(program(state, batch))
    seconds.append((time.perf_counter() - begun) / options.steps)
  name = options.program + (', scanned edges' if options.scan_edges else '')
  device = f'{mesh.size} × {jax.devices()[0].device_kind}'
  spread = f'{sorted(seconds)[1]:.2f} ({min(seconds):.2f} … {max(seconds):.2f})'
  where = f'{device}, {platform.machine()}, jax {jax.__version__}'
  print(f'| {name} | {batch_size} | {where} | {traced:.0f} | {compiled:.0f} | {spread} |')


if __name__ == '__main__':
  main()

"""Seconds to trace, to compile and to take a step of the networks at their official size, on whatever device there is.

  python benchmarks/step.py nas_bench_201|darts|cifar_network [options]     # see --help

Without --serve it prints a row for README.md; with it, it takes turns with others: see compare.py.
"""

import argparse
import platform
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from worker import serve

import beta_darts_jax as bd
from beta_darts_jax.runtime.devices import make_mesh, set_up

SPACES = {'nas_bench_201': bd.NAS_BENCH_201, 'darts': bd.DARTS}


def arguments():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('program', choices=(*SPACES, 'cifar_network'))
  parser.add_argument('--channels', type=int, default=16)
  parser.add_argument('--depth', type=int, default=0, help='cells a stage (5), or cells of the DARTS supernet (8)')
  parser.add_argument('--batch-size', type=int, default=64)
  parser.add_argument('--steps', type=int, default=2, help='of a round: one dispatch')
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--scan', action='store_true', help='equal cells and edges as one compiled body')
  parser.add_argument('--dtype', choices=('float32', 'bfloat16'), default='float32')
  parser.add_argument('--devices', type=int, default=1, help='that share the batch; on CPU virtual ones')
  parser.add_argument('--serve', action='store_true')
  return parser.parse_args()


def search_program(space, **sizes):
  """(bilevel step of (state, batch), its state)."""
  supernet = bd.Supernet(space, 10, **sizes)
  alphas = space.init_alphas(jax.random.key(0))
  images = jnp.zeros((1, 32, 32, 3))
  variables = jax.jit(supernet.init)(jax.random.key(1), images, bd.softmax_betas(alphas))
  step, hyper = bd.make_search_step(supernet), jax.tree.map(np.float32, bd.Hyperparameters())
  return lambda state, batch: step(state, batch, batch, hyper)[0], bd.SearchState.create(variables, alphas)


def training_program(channels):
  """(training step of (state, batch), its state): 20 cells, auxiliary head, drop path."""
  from beta_darts_jax.config import default_retrain
  from beta_darts_jax.retrain import step as training
  from beta_darts_jax.spaces.published import PUBLISHED

  recipe = default_retrain().train.to_dict()
  network = bd.Network(PUBLISHED['DARTS_V2'], 10, channels=channels, auxiliary=True)
  step = training.make_train_step(network, recipe, auxiliary_weight=0.4)
  state = jax.jit(lambda seed: training.create_state(network, (32, 32, 3), recipe, seed))(0)
  return lambda state, batch: step(state, *batch, 0.025, 0.1), state


def program_of(options):
  """(step, state) of the options."""
  if options.program == 'cifar_network':
    return training_program(options.channels)
  depth = 'cells_per_stage' if options.program == 'nas_bench_201' else 'layers'
  sizes = {
    'channels': options.channels,
    'unroll': not options.scan,
    depth: options.depth or {'layers': 8}.get(depth, 5),
  }
  return search_program(SPACES[options.program], **sizes, dtype=None if options.dtype == 'float32' else jnp.bfloat16)


def main():
  options = arguments()
  set_up(cpu_devices=options.devices, cluster='none')
  try:
    mesh = make_mesh(options.batch_size, data=options.devices)
  except bd.InputError as error:
    sys.exit(f'error: {error}')
  step, state = program_of(options)
  images = jax.random.normal(jax.random.key(2), (options.batch_size, 32, 32, 3))
  batch = images, jnp.arange(options.batch_size) % 10
  batch = jax.device_put(batch, NamedSharding(mesh, PartitionSpec('data')))
  state = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))

  chunk = lambda state, batch, steps: jax.lax.fori_loop(0, steps, lambda i, state: step(state, batch), state)
  begun = time.perf_counter()
  lowered = jax.jit(chunk, donate_argnums=0, out_shardings=NamedSharding(mesh, PartitionSpec())).lower(state, batch, 1)
  traced = time.perf_counter() - begun
  program = lowered.compile()
  compiled = time.perf_counter() - begun - traced
  memory = program.memory_analysis()
  held = [state]

  def run(steps):
    held[0] = jax.block_until_ready(program(held[0], batch, steps))

  if options.serve:
    about = {'trace': traced, 'compile': compiled, 'device': jax.devices()[0].device_kind}
    about |= {'version': f'jax {jax.__version__}', 'temporary_bytes': memory.temp_size_in_bytes}
    return serve(run, options.steps, about)
  run(1)
  seconds = []
  for _ in range(options.rounds):
    begun = time.perf_counter()
    run(options.steps)
    seconds.append((time.perf_counter() - begun) / options.steps)
  device = f'{mesh.size} × {jax.devices()[0].device_kind}'
  spread = f'{statistics.median(seconds):.3f} ({min(seconds):.3f} … {max(seconds):.3f})'
  name = ' '.join(sys.argv[1:])
  where = f'{device}, {platform.machine()}, jax {jax.__version__}'
  print(f'| {name} | {where} | {traced:.0f} | {compiled:.0f} | {memory.temp_size_in_bytes / 2**30:.2f} | {spread} |')


if __name__ == '__main__':
  main()

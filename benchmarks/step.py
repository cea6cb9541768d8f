"""Measures the seconds to trace, to compile and to take a step of a network at its official size, on any device.

  python benchmarks/step.py nas_bench_201|darts|cifar_network [options]     # see --help

It prints a row for README.md. With --serve it takes turns with other programs instead: see compare.py.
"""

import argparse
import platform
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from timing import seconds_a_step, serve, spread

import beta_darts_jax as bd
from beta_darts_jax.config import default_retrain
from beta_darts_jax.retrain.recipe import Recipe
from beta_darts_jax.retrain.step import create_state, make_train_step
from beta_darts_jax.runtime.devices import make_mesh, named_sharding, replicate, set_up, shard

IMAGE_SHAPE = (32, 32, 3)
SPACES = {'nas_bench_201': bd.NAS_BENCH_201, 'darts': bd.DARTS}


class CompiledSteps:
  """A step, compiled as a loop whose length is an argument. `run(steps)` continues where the last call ended.

  Args:
    step: (state, batch) → state.
    state: the first state.
    batch: the batch of every step; it is split over 'data'.
    mesh: the mesh of devices.

  Attributes:
    trace_seconds, compile_seconds: seconds of tracing and of compiling the program.
    temporary_bytes: memory of the program besides its arguments and results.
    text: the compiled program (HLO).
  """

  def __init__(self, step, state, batch, mesh):
    def take_steps(state, batch, steps):
      return jax.lax.fori_loop(0, steps, lambda _, state: step(state, batch), state)

    self._state, self._batch = replicate(state, mesh), shard(batch, mesh, 'data')
    started = time.perf_counter()
    jitted = jax.jit(take_steps, donate_argnums=0, out_shardings=named_sharding(mesh))
    lowered = jitted.lower(self._state, self._batch, 1)
    self.trace_seconds = time.perf_counter() - started
    self._program = lowered.compile()
    self.compile_seconds = time.perf_counter() - started - self.trace_seconds
    self.temporary_bytes = self._program.memory_analysis().temp_size_in_bytes
    self.text = self._program.as_text()

  def run(self, steps: int) -> None:
    """Takes the steps and waits for the device."""
    self._state = jax.block_until_ready(self._program(self._state, self._batch, steps))


def make_batch(batch_size):
  """Returns random images [B, H, W, C] and labels [B]."""
  images = jax.random.normal(jax.random.key(2), (batch_size, *IMAGE_SHAPE))
  return images, jnp.arange(batch_size) % 10


def search_program(supernet, hyper=None, **parts):
  """Returns (bilevel step of (state, batch), its first state).

  Args:
    supernet: a bd.Supernet.
    hyper: the Hyperparameters of every step; None is the defaults.
    parts: arguments of bd.make_search_step; optimizers are functions.
  """
  space, relaxation = supernet.space, parts.get('relaxation', bd.Relaxation())
  hyper = jax.tree.map(np.float32, hyper or bd.Hyperparameters())
  alphas = space.init_alphas(jax.random.key(0))
  edge_logits = relaxation.init_edge_logits(jax.random.key(1), space)
  betas = relaxation.evaluation_betas((alphas, edge_logits), hyper)
  variables = jax.jit(supernet.init)(jax.random.key(2), jnp.zeros((1, *IMAGE_SHAPE)), betas)
  step = bd.make_search_step(supernet, **parts)
  optimizers = {name: part for name, part in parts.items() if name.endswith('_optimizer')}

  def take_step(state, batch):
    return step(state, batch, batch, hyper)[0]

  return take_step, bd.SearchState.create(variables, alphas, edge_logits=edge_logits, **optimizers)


def training_program(channels):
  """Returns (training step of (state, batch), its first state): 20 cells, auxiliary head, drop path."""
  options = dict(default_retrain().train)
  del options['seed'], options['steps_per_dispatch']
  recipe = Recipe(**options)
  network = bd.Network(bd.PUBLISHED['DARTS_V2'], 10, channels=channels, auxiliary=True)
  step = make_train_step(network, recipe, auxiliary_weight=0.4)
  state = jax.jit(lambda seed: create_state(network, IMAGE_SHAPE, recipe, seed))(0)

  def take_step(state, batch):
    return step(state, *batch, 0.025, 0.1)

  return take_step, state


def make_program(options):
  """Returns (step, first state) of the options."""
  if options.program == 'cifar_network':
    return training_program(options.channels)
  if options.program == 'nas_bench_201':
    cells = {'cells_per_stage': options.depth or 5}
  else:
    cells = {'layers': options.depth or 8}
  dtype = None if options.dtype == 'float32' else jnp.bfloat16
  supernet = bd.Supernet(
    SPACES[options.program], 10, channels=options.channels, unroll=not options.scan, dtype=dtype, **cells
  )
  return search_program(supernet)


def parse_arguments(description=__doc__):
  parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('program', choices=(*SPACES, 'cifar_network'))
  parser.add_argument('--channels', type=int, default=16)
  parser.add_argument('--depth', type=int, default=0, help='cells per stage (5), or cells of the DARTS supernet (8)')
  parser.add_argument('--batch-size', type=int, default=64)
  parser.add_argument('--steps', type=int, default=2, help='steps of a round, which is one dispatch')
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--scan', action='store_true', help='compile equal cells and edges once, as the body of a loop')
  parser.add_argument('--dtype', choices=('float32', 'bfloat16'), default='float32')
  parser.add_argument('--devices', type=int, default=1, help='number of devices, virtual on CPU, that share the batch')
  parser.add_argument('--serve', action='store_true', help='take turns with other programs')
  return parser.parse_args()


def main():
  options = parse_arguments()
  set_up(cpu_devices=options.devices, cluster='none')
  jax.config.update('jax_enable_compilation_cache', False)  # else the seconds of compilation may be those of a cache
  try:
    mesh = make_mesh(options.batch_size, data=options.devices)
  except bd.InputError as error:
    sys.exit(f'error: {error}')
  program = CompiledSteps(*make_program(options), make_batch(options.batch_size), mesh)
  traced, compiled, device = program.trace_seconds, program.compile_seconds, jax.devices()[0].device_kind
  if options.serve:
    about = {'trace': traced, 'compile': compiled, 'device': device, 'version': f'jax {jax.__version__}'}
    return serve(program.run, options.steps, about)
  program.run(1)
  seconds = [seconds_a_step(program.run, options.steps) for _ in range(options.rounds)]
  where = f'{mesh.size} × {device}, {platform.machine()}, jax {jax.__version__}'
  memory = f'{program.temporary_bytes / 2**30:.2f}'
  row = [' '.join(sys.argv[1:]), where, f'{traced:.1f}', f'{compiled:.1f}', memory, spread(seconds, '.3f')]
  print(f'| {" | ".join(row)} |')


if __name__ == '__main__':
  main()

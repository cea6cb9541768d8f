"""Compiles the bilevel step for TPU pods on a machine without one: memory, FLOPs, collectives, estimated cycles.

  pip install -e '.[pods]'   # libtpu, in an environment of its own: with it JAX looks for a TPU
  python benchmarks/tpu_aot.py [--topologies v5e:4x4,v5e:8x8] [--channels 16] [--dtype bfloat16]

Prints the table of README.md. What is projected is the compiler's estimate: cycles of the fusions of one step at
1.5 GHz (v5e: 197 TFLOP/s in bfloat16 of four 128×128 MXUs), without the time of collectives or of the host.
"""

import argparse
import os
import re
import time

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import beta_darts_jax as bd
from beta_darts_jax.parallel import STRATEGIES, each_member, over_population

CLOCK = 1.5e9  # hertz
COLLECTIVES = ('all-reduce', 'all-gather', 'reduce-scatter', 'collective-permute', 'all-to-all')
SPACES = {'nas_bench_201': (bd.NAS_BENCH_201, {'cells_per_stage': 5}), 'darts': (bd.DARTS, {'layers': 8})}


def compile_step(space, mesh, members, batch_size, channels, dtype, strategy, depth):
  """The compiled bilevel step of `members` searches, batches split over the mesh's axis 'data'."""
  space, sizes = SPACES[space]
  sizes = sizes if not depth else dict.fromkeys(sizes, depth)
  unroll = space is bd.NAS_BENCH_201
  supernet = bd.Supernet(space, 10, channels=channels, unroll=unroll, dtype=jnp.dtype(dtype), **sizes)

  def initial(seed):
    alphas = space.init_alphas(jax.random.key(seed))
    images = jnp.zeros((1, 32, 32, 3))
    variables = supernet.init(jax.random.key(seed), images, bd.softmax_betas(alphas))
    return bd.SearchState.create(variables, alphas, seed)

  step = bd.make_search_step(supernet)
  one = lambda member, _: step(member[0], member[1], member[1], member[2])[0]
  many = over_population(each_member(one, strategy), mesh)
  place = lambda tree, *axes: jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
      (members, *x.shape), x.dtype, sharding=NamedSharding(mesh, PartitionSpec('population', *axes))
    ),
    tree,
  )
  state = place(jax.eval_shape(initial, np.uint32(0)))
  images = jax.ShapeDtypeStruct((batch_size, 32, 32, 3), jnp.float32)
  batch = place((images, jax.ShapeDtypeStruct((batch_size,), jnp.int32)), 'data')
  hyper = place(jax.tree.map(np.float32, bd.Hyperparameters()))
  program = jax.jit(lambda state, batch, hyper: many((state, batch, hyper), None), donate_argnums=0)
  return program.lower(state, batch, hyper).compile()


def estimated_cycles(text):
  """Σ estimated_cycles over the entry computation, and whether it has loops, whose bodies are not counted."""
  entry = text[text.index('\nENTRY ') :]
  cycles = [int(c) for c in re.findall(r'"estimated_cycles":"?(\d+)', entry)]
  return sum(cycles), ' while(' in entry


def report(name, compiled, seconds, members):
  text, memory = compiled.as_text(), compiled.memory_analysis()
  cycles, loops = estimated_cycles(text)
  counts = {c: len(re.findall(rf' {c}(?:-start)?\(', text)) for c in COLLECTIVES}
  collectives = ', '.join(f'{count} {c}' for c, count in counts.items() if count) or 'none'
  held = memory.argument_size_in_bytes + memory.temp_size_in_bytes + memory.output_size_in_bytes
  held -= memory.alias_size_in_bytes
  flops = compiled.cost_analysis()['flops']
  rate = '-' if loops or not cycles else f'{members * CLOCK / cycles:.0f}'
  shown = f'{cycles / 1e6:.2f}' + (' and loops' if loops else '')
  print(
    f'| {name} | {held / 2**20:.0f} | {flops / 1e9:.1f} | {collectives} | {shown} | {rate} | {seconds:.0f} |',
    flush=True,
  )


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--topologies', default='v5e:4x4,v5e:8x8')
  parser.add_argument('--spaces', default='nas_bench_201,darts')
  parser.add_argument('--channels', type=int, default=16)
  parser.add_argument('--depth', type=int, default=0, help='cells a stage (5), or cells of the DARTS supernet (8)')
  parser.add_argument('--batch-size', type=int, default=64)
  parser.add_argument('--dtype', choices=('float32', 'bfloat16'), default='bfloat16')
  options = parser.parse_args()
  print('| program, mesh (population × data) | MiB a chip | GFLOP a chip | collectives | cycles, 10⁶ | ', end='')
  print('projected search steps/s | compile, s |')
  print('|---|---|---|---|---|---|---|', flush=True)
  largest = 0
  for topology in options.topologies.split(','):
    chips = topologies.get_topology_desc(topology, 'tpu').devices
    sizes = [n for n in (1, 4, 16, len(chips)) if largest < n <= len(chips)]
    largest = len(chips)
    for space in options.spaces.split(','):
      for n in sorted(set(sizes)):
        cases = [(1, n, 1, 'map')] + ([(n, 1, n, 'map')] if n > 1 else [(1, 1, 8, s) for s in STRATEGIES])
        for population, data, members, strategy in cases if space == 'nas_bench_201' else cases[:1]:
          mesh = Mesh(
            np.array(chips[:n]).reshape(population, data), ('population', 'data'), axis_types=(AxisType.Auto,) * 2
          )
          begun = time.perf_counter()
          compiled = compile_step(
            space, mesh, members, options.batch_size, options.channels, options.dtype, strategy, options.depth
          )
          name = f'{space}, {topology}, {population} × {data}' + (f', {members} members' if members > 1 else '')
          name += f' by {strategy}' if members > population else ''
          report(name, compiled, time.perf_counter() - begun, members)


if __name__ == '__main__':
  main()

"""Compiles the bilevel step for TPU pods on a machine without one: memory, FLOPs, collectives, estimated cycles.

  pip install -e '.[pods]'   # libtpu, in an environment of its own: with it JAX looks for a TPU
  python benchmarks/tpu_aot.py [--slices v5e:4x4,v5e:8x8] [--channels 16] [--dtype bfloat16]

Prints the table of README.md. What is projected is the compiler's estimate: cycles of the fusions of one step at
1.5 GHz (v5e: 197 TFLOP/s in bfloat16 of four 128×128 MXUs), without the time of collectives or of the host.
"""

import argparse
import collections
import functools
import os
import re
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import beta_darts_jax as bd
from beta_darts_jax.runtime.devices import STRATEGIES, map_members, shard_population

CLOCK = 1.5e9  # hertz
IMAGE = (32, 32, 3)
COLLECTIVES = ('all-reduce', 'all-gather', 'reduce-scatter', 'collective-permute', 'all-to-all')
SPACES = {'nas_bench_201': (bd.NAS_BENCH_201, {'cells_per_stage': 5}), 'darts': (bd.DARTS, {'layers': 8})}


def search_step(space, options, unroll):
  """(bilevel step, shapes of its state) of a search space."""
  space, sizes = SPACES[space]
  sizes = sizes if not options.depth else dict.fromkeys(sizes, options.depth)
  dtype = jnp.dtype(options.dtype)
  supernet = bd.Supernet(space, 10, channels=options.channels, unroll=unroll, dtype=dtype, **sizes)

  def initial(seed):
    alphas = space.init_alphas(jax.random.key(seed))
    images = jnp.zeros((1, *IMAGE))
    variables = supernet.init(jax.random.key(seed), images, bd.softmax_betas(alphas))
    return bd.SearchState.create(variables, alphas, seed)

  return bd.make_search_step(supernet), jax.eval_shape(initial, np.uint32(0))


def step_flops(space, options):
  """FLOPs of a step by XLA's analysis of the program before it is compiled, unrolled: of a loop it counts one turn."""
  step, state = search_step(space, options, unroll=True)
  batch = batch_shapes(options)
  hyper = jax.tree.map(np.float32, bd.Hyperparameters())
  return step.trace(state, batch, batch, hyper).lower(lowering_platforms=('tpu',)).cost_analysis()['flops']


def batch_shapes(options):
  images = jax.ShapeDtypeStruct((options.batch_size, *IMAGE), jnp.float32)
  return images, jax.ShapeDtypeStruct((options.batch_size,), jnp.int32)


def compile_step(space, options, mesh, members, strategy):
  """The compiled bilevel step of `members` searches, batches split over the mesh's axis 'data'."""
  step, state = search_step(space, options, options.unroll)
  one = lambda member, _: step(member[0], member[1], member[1], member[2])[0]
  many = shard_population(map_members(one, strategy), mesh)
  place = lambda tree, *axes: jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
      (members, *x.shape), x.dtype, sharding=NamedSharding(mesh, PartitionSpec('population', *axes))
    ),
    tree,
  )
  hyper = place(jax.tree.map(np.float32, bd.Hyperparameters()))
  program = jax.jit(lambda state, batch, hyper: many((state, batch, hyper), None), donate_argnums=0)
  return program.lower(place(state), place(batch_shapes(options), 'data'), hyper).compile()


def executed(text):
  """What one run of the compiled program executes, loops as often as they turn: Counter of cycles and collectives.

  Raises:
    ValueError: a loop whose number of turns the compiler does not know.
  """
  blocks = re.split(r'\n(?=(?:ENTRY )?%[\w.\-]+ \()', text)
  computations = {re.search(r'%([\w.\-]+) \(', block)[1]: block for block in blocks[1:]}
  entry = next(name for name, block in computations.items() if block.startswith('ENTRY'))

  @functools.cache
  def count(name):
    total = collections.Counter()
    for line in computations[name].splitlines()[1:]:
      cycles = re.search(r'"estimated_cycles":"?(\d+)', line)
      total['cycles'] += int(cycles[1]) if cycles else 0
      kind = re.search(rf' ({"|".join(COLLECTIVES)})(?:-start)?\(', line)
      if kind:
        total[kind[1]] += 1
      if ' while(' in line:
        bounds = re.findall(r's32\[\]\S* constant\((\d+)\)', computations[re.search(r'condition=%([\w.\-]+)', line)[1]])
        if len(bounds) != 1:  # loops count from 0 to the one constant of their condition
          raise ValueError(f'a loop of unknown length: {line[:200]}')
        total.update({key: int(bounds[0]) * n for key, n in count(re.search(r'body=%([\w.\-]+)', line)[1]).items()})
      elif ' call(' in line:
        total.update(count(re.search(r'to_apply=%([\w.\-]+)', line)[1]))
      elif ' conditional(' in line:
        branches = re.search(r'branch_computations=\{([^}]*)', line) or re.search(r'(true_computation=.*)', line)
        branches = [name for name in re.findall(r'%([\w.\-]+)', branches[1]) if name in computations]
        total.update(max(map(count, branches), key=lambda counts: counts['cycles']))
    return total

  return count(entry)


def report(name, compiled, seconds, members, flops):
  counts, memory = executed(compiled.as_text()), compiled.memory_analysis()
  cycles = counts.pop('cycles')
  collectives = ', '.join(f'{count} {kind}' for kind, count in counts.items()) or 'none'
  held = memory.argument_size_in_bytes + memory.temp_size_in_bytes + memory.output_size_in_bytes
  held -= memory.alias_size_in_bytes
  row = [name, f'{held / 2**20:.0f}', f'{flops / 1e9:.1f}', collectives, f'{cycles / 1e6:.2f}']
  print(f'| {" | ".join(row)} | {members * CLOCK / cycles:.1f} | {seconds:.0f} |', flush=True)


def layouts(space, chips):
  """(population, data, members, strategy) to be compiled: one search over all chips, a search on each, and between."""
  yield 1, chips, 1, 'map'
  if chips > 1:
    yield chips, 1, chips, 'map'
  elif space == 'nas_bench_201':
    yield from ((1, 1, 8, strategy) for strategy in STRATEGIES)
  if chips > 4 and space == 'nas_bench_201':
    yield chips // 4, 4, chips // 4, 'map'


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--slices', default='v5e:1x1,v5e:2x2,v5e:4x4,v5e:8x8')
  parser.add_argument('--spaces', default='nas_bench_201,darts')
  parser.add_argument('--channels', type=int, default=16)
  parser.add_argument('--depth', type=int, default=0, help='cells a stage (5), or cells of the DARTS supernet (8)')
  parser.add_argument('--batch-size', type=int, default=64)
  parser.add_argument('--dtype', choices=('float32', 'bfloat16'), default='bfloat16')
  parser.add_argument('--unroll', action='store_true', help='every edge by itself: compiles for many minutes')
  options = parser.parse_args()
  if unknown := set(options.spaces.split(',')) - set(SPACES):
    parser.error(f'--spaces: {", ".join(sorted(unknown))} unknown, allowed are {", ".join(SPACES)}')
  jax.config.update('jax_platforms', 'cpu')  # the host's; libtpu is there to compile
  # else libtpu asks the network what machine this is, and lets one process load it at a time
  os.environ |= {'TPU_SKIP_MDS_QUERY': '1', 'TPU_ACCELERATOR_TYPE': 'v5litepod-16', 'TPU_WORKER_HOSTNAMES': 'localhost'}
  os.environ['ALLOW_MULTIPLE_LIBTPU_LOAD'] = '1'
  print('| program, mesh (population × data) | MiB a chip | GFLOP a chip | collectives | cycles, 10⁶ | ', end='')
  print('projected search steps/s | compile, s |')
  print('|---|---|---|---|---|---|---|', flush=True)
  for space in options.spaces.split(','):
    flops = step_flops(space, options)
    for name in options.slices.split(','):
      bounds = {'chips_per_host_bounds': (1, 1, 1)} if name.endswith('1x1') else {}
      chips = np.array(topologies.get_topology_desc(name, 'tpu', **bounds).devices)
      for population, data, members, strategy in layouts(space, len(chips)):
        mesh = Mesh(chips.reshape(population, data), ('population', 'data'), axis_types=(AxisType.Auto,) * 2)
        begun = time.perf_counter()
        compiled = compile_step(space, options, mesh, members, strategy)
        row = f'{space}, {name}, {population} × {data}' + (f', {members} members' if members > 1 else '')
        row += f' by {strategy}' if members > population else ''
        report(row, compiled, time.perf_counter() - begun, members, flops * members / len(chips))


if __name__ == '__main__':
  main()

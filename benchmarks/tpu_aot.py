"""Compiles the bilevel step for TPU slices on a machine without a TPU: memory, FLOPs, collectives, estimated cycles.

  pip install -e '.[pods]'   # libtpu, in an environment of its own: with it JAX looks for a TPU
  python benchmarks/tpu_aot.py [--slices v5e:4x4,v5e:8x8] [--channels 16] [--dtype bfloat16]

It prints the table of README.md. The projected speed is the compiler's estimate: the cycles of the fusions of one step
at 1.5 GHz (v5e: 197 TFLOP/s in bfloat16 from four 128×128 MXUs). The time of collectives and of the host is not
counted.
"""

import argparse
import collections
import functools
import os
import re
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import beta_darts_jax as bd
from beta_darts_jax.runtime.devices import STRATEGIES, map_members, shard_population

CLOCK = 1.5e9  # hertz
IMAGE_SHAPE = (32, 32, 3)
COLLECTIVES = ('all-reduce', 'all-gather', 'reduce-scatter', 'collective-permute', 'all-to-all')
SPACES = {'nas_bench_201': (bd.NAS_BENCH_201, {'cells_per_stage': 5}), 'darts': (bd.DARTS, {'layers': 8})}


def search_step(space, options, unroll):
  """Returns (bilevel step, shapes of its state) of a search space, given by name."""
  space, sizes = SPACES[space]
  sizes = sizes if not options.depth else dict.fromkeys(sizes, options.depth)
  dtype = jnp.dtype(options.dtype)
  supernet = bd.Supernet(space, 10, channels=options.channels, unroll=unroll, dtype=dtype, **sizes)

  def initial_state(seed):
    alphas = space.init_alphas(jax.random.key(seed))
    images = jnp.zeros((1, *IMAGE_SHAPE))
    variables = supernet.init(jax.random.key(seed), images, bd.softmax_betas(alphas))
    return bd.SearchState.create(variables, alphas, seed)

  return bd.make_search_step(supernet), jax.eval_shape(initial_state, np.uint32(0))


def batch_shapes(options):
  images = jax.ShapeDtypeStruct((options.batch_size, *IMAGE_SHAPE), jnp.float32)
  return images, jax.ShapeDtypeStruct((options.batch_size,), jnp.int32)


def step_flops(space, options):
  """Returns the FLOPs of a step by XLA's analysis of the unrolled program before it is compiled.

  The program is unrolled because XLA counts one turn of a loop.
  """
  step, state = search_step(space, options, unroll=True)
  batch = batch_shapes(options)
  hyper = jax.tree.map(np.float32, bd.Hyperparameters())
  return step.trace(state, batch, batch, hyper).lower(lowering_platforms=('tpu',)).cost_analysis()['flops']


def compile_step(space, options, layout, mesh):
  """Returns the compiled bilevel step of the layout's members; batches are split over 'data' of the mesh."""
  step, state = search_step(space, options, options.unroll)

  def take_step(member, shared):
    del shared
    state, batch, hyper = member
    return step(state, batch, batch, hyper)[0]

  step_all = shard_population(map_members(take_step, layout.strategy), mesh)

  def take_steps(state, batch, hyper):
    return step_all((state, batch, hyper), None)

  def for_members(tree, *axes):
    """Shapes of `tree` with a leading axis of members, split over 'population'; `axes` split the next ones."""
    sharding = NamedSharding(mesh, PartitionSpec('population', *axes))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((layout.members, *x.shape), x.dtype, sharding=sharding), tree)

  hyper = jax.tree.map(np.float32, bd.Hyperparameters())
  arguments = for_members(state), for_members(batch_shapes(options), 'data'), for_members(hyper)
  return jax.jit(take_steps, donate_argnums=0).lower(*arguments).compile()


# ---- what the compiled program executes ----


def count_executed(text):
  """Returns the cycles and the collectives of one run of a compiled program, a Counter; loops count with their turns.

  Args:
    text: of the compiled program (HLO).

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
      total.update(count_line(line))
    return total

  def count_line(line):
    counts = collections.Counter()
    if cycles := re.search(r'"estimated_cycles":"?(\d+)', line):
      counts['cycles'] = int(cycles[1])
    if kind := re.search(rf' ({"|".join(COLLECTIVES)})(?:-start)?\(', line):
      counts[kind[1]] += 1
    if ' while(' in line:
      turns = count_turns(line, computations)
      counts.update({key: turns * n for key, n in count(named_in(line, 'body')).items()})
    elif ' call(' in line:
      counts.update(count(named_in(line, 'to_apply')))
    elif ' conditional(' in line:  # the branch with most cycles
      listed = re.search(r'branch_computations=\{([^}]*)', line) or re.search(r'(true_computation=.*)', line)
      branches = [count(name) for name in re.findall(r'%([\w.\-]+)', listed[1]) if name in computations]
      counts.update(max(branches, key=lambda branch: branch['cycles']))
    return counts

  return count(entry)


def named_in(line, attribute):
  """Returns the name of the computation that an attribute of an instruction names."""
  return re.search(rf'{attribute}=%([\w.\-]+)', line)[1]


def count_turns(line, computations):
  """Returns the number of turns of a loop, which counts from 0 to the only constant of its condition."""
  bounds = re.findall(r's32\[\]\S* constant\((\d+)\)', computations[named_in(line, 'condition')])
  if len(bounds) != 1:
    raise ValueError(f'a loop of unknown length: {line[:200]}')
  return int(bounds[0])


# ---- the table ----


class Layout(NamedTuple):
  """How searches lie on the chips of a slice: a mesh of population × data chips."""

  population: int
  data: int
  members: int
  strategy: str = 'map'

  def __str__(self):
    text = f'{self.population} × {self.data}' + (f', {self.members} members' if self.members > 1 else '')
    return text + (f' by {self.strategy}' if self.members > self.population else '')


def layouts(space, chips):
  """Returns the layouts to compile: one search over all chips, one search on each chip, and one on each four chips."""
  chosen = [Layout(1, chips, members=1)]
  if chips > 1:
    chosen.append(Layout(chips, 1, members=chips))
  elif space == 'nas_bench_201':
    chosen += [Layout(1, 1, members=8, strategy=strategy) for strategy in STRATEGIES]
  if chips > 4 and space == 'nas_bench_201':
    chosen.append(Layout(chips // 4, 4, members=chips // 4))
  return chosen


def print_row(name, compiled, seconds, members, flops):
  """Prints the row of a compiled program; `flops` are those of one chip."""
  counts, memory = count_executed(compiled.as_text()), compiled.memory_analysis()
  cycles = counts.pop('cycles')
  collectives = ', '.join(f'{count} {kind}' for kind, count in counts.items()) or 'none'
  held = memory.argument_size_in_bytes + memory.temp_size_in_bytes + memory.output_size_in_bytes
  held -= memory.alias_size_in_bytes
  row = [name, f'{held / 2**20:.0f}', f'{flops / 1e9:.1f}', collectives, f'{cycles / 1e6:.2f}']
  print(f'| {" | ".join(row)} | {members * CLOCK / cycles:.1f} | {seconds:.0f} |', flush=True)


def measure_slice(space, name, options, flops):
  """Prints a row for each layout of a space on a slice."""
  bounds = {'chips_per_host_bounds': (1, 1, 1)} if name.endswith('1x1') else {}
  chips = np.array(topologies.get_topology_desc(name, 'tpu', **bounds).devices)
  for layout in layouts(space, len(chips)):
    grid = chips.reshape(layout.population, layout.data)
    mesh = Mesh(grid, ('population', 'data'), axis_types=(AxisType.Auto,) * 2)
    started = time.perf_counter()
    compiled = compile_step(space, options, layout, mesh)
    seconds = time.perf_counter() - started
    print_row(f'{space}, {name}, {layout}', compiled, seconds, layout.members, flops * layout.members / len(chips))


def parse_arguments():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--slices', default='v5e:1x1,v5e:2x2,v5e:4x4,v5e:8x8')
  parser.add_argument('--spaces', default=','.join(SPACES))
  parser.add_argument('--channels', type=int, default=16)
  parser.add_argument('--depth', type=int, default=0, help='cells per stage (5), or cells of the DARTS supernet (8)')
  parser.add_argument('--batch-size', type=int, default=64)
  parser.add_argument('--dtype', choices=('float32', 'bfloat16'), default='bfloat16')
  parser.add_argument('--unroll', action='store_true', help='compile every edge separately, which takes many minutes')
  options = parser.parse_args()
  options.spaces = options.spaces.split(',')
  if unknown := sorted(set(options.spaces) - set(SPACES)):
    parser.error(f'--spaces={",".join(unknown)}: expected some of {", ".join(SPACES)}')
  return options


def main():
  options = parse_arguments()
  jax.config.update('jax_platforms', 'cpu')  # libtpu compiles only
  # Otherwise libtpu asks the network which machine this is, and lets only one process load it.
  os.environ |= {'TPU_SKIP_MDS_QUERY': '1', 'TPU_ACCELERATOR_TYPE': 'v5litepod-16', 'TPU_WORKER_HOSTNAMES': 'localhost'}
  os.environ['ALLOW_MULTIPLE_LIBTPU_LOAD'] = '1'
  print('| program, slice, mesh (population × data) | MiB a chip | GFLOP a chip | collectives a step | ', end='')
  print('cycles, 10⁶ | projected steps/s | compile, s |')
  print('|---|---|---|---|---|---|---|', flush=True)
  for space in options.spaces:
    flops = step_flops(space, options)
    for name in options.slices.split(','):
      measure_slice(space, name, options, flops)


if __name__ == '__main__':
  main()

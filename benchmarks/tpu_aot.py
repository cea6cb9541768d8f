"""Compiles the bilevel step for TPU slices on a machine without a TPU: memory, FLOPs, collectives, estimated cycles.

  pip install -e '.[pods]'   # libtpu, in an environment of its own: with it JAX looks for a TPU
  python benchmarks/tpu_aot.py [--programs nas_bench_201,darts] [--slices v5e:4x4,v5e:8x8] [--dtype bfloat16]

It prints the table of tpu.md. `--costliest 10` also lists the costliest instructions of each program. With
`--effort -1` the compiler takes a tenth of the time, and makes a slower program. The projected speed is the compiler's
estimate: the cycles of the fusions of one step at 1.5 GHz (v5e: 197 TFLOP/s in bfloat16 from four 128×128 MXUs). The
time of collectives and of the host is not counted.
"""

import argparse
import collections
import functools
import os
import re
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import beta_darts_jax as bd
from beta_darts_jax.runtime.devices import STRATEGIES, map_members, shard_population
from beta_darts_jax.spaces.space import make_space

CLOCK = 1.5e9  # hertz
COLLECTIVES = ('all-reduce', 'all-gather', 'reduce-scatter', 'collective-permute', 'all-to-all')


class Program(NamedTuple):
  """A bilevel step: attributes of its supernet, arguments of make_search_step, and pixels a side of an image."""

  space: bd.SearchSpace
  supernet: Mapping[str, Any] = MappingProxyType({})
  parts: Mapping[str, Any] = MappingProxyType({})
  size: int = 32
  unroll: bool = False  # as in the config of the space


PROGRAMS = {
  'nas_bench_201': Program(bd.NAS_BENCH_201, {'cells_per_stage': 5}, unroll=True),
  'darts': Program(bd.DARTS, {'layers': 8}),
  'darts_imagenet': Program(
    bd.DARTS_WITH_NONE,
    {'layers': 8, 'stem': 'imagenet', 'partial_channels': 2, 'num_classes': 1000},
    {'relaxation': bd.Relaxation(edges=bd.DARTS_WITH_NONE.edges)},
    size=224,
  ),
  'mobile': Program(bd.MOBILE),
  'mobile_gdas': Program(
    bd.MOBILE, {'single_path': True}, {'relaxation': bd.Relaxation('gumbel'), 'order': 'weights_first'}
  ),
  'mobile_proxyless': Program(
    bd.MOBILE,
    {'single_path': True, 'paths': 2},
    {'relaxation': bd.Relaxation('two_paths'), 'order': 'weights_first'},
  ),
}


def search_step(program, options, unroll):
  """Returns (bilevel step, shapes of its state) of a Program."""
  space, parts = program.space, program.parts
  attributes = {'num_classes': 10, 'channels': options.channels, 'unroll': unroll} | program.supernet
  if options.depth and space.depth_field:
    attributes[space.depth_field] = options.depth
  elif options.depth:
    space = make_space(space.name, nodes=options.depth)
  supernet = bd.Supernet(space, dtype=jnp.dtype(options.dtype), **attributes)
  relaxation = parts.get('relaxation', bd.Relaxation())

  def initial_state(seed):
    key = jax.random.key(seed)
    alphas = space.init_alphas(key)
    variables = supernet.init(key, jnp.zeros((1, program.size, program.size, 3)), bd.softmax_betas(alphas))
    return bd.SearchState.create(variables, alphas, seed, relaxation.init_edge_logits(key, space))

  return bd.make_search_step(supernet, **parts), jax.eval_shape(initial_state, np.uint32(0))


def batch_shapes(program, options):
  images = jax.ShapeDtypeStruct((options.batch_size, program.size, program.size, 3), jnp.float32)
  return images, jax.ShapeDtypeStruct((options.batch_size,), jnp.int32)


def step_flops(program, options):
  """Returns the FLOPs of a step by XLA's analysis of the unrolled program before it is compiled.

  The program is unrolled because XLA counts one turn of a loop.
  """
  step, state = search_step(program, options, unroll=True)
  batch = batch_shapes(program, options)
  hyper = jax.tree.map(np.float32, bd.Hyperparameters())
  return step.trace(state, batch, batch, hyper).lower(lowering_platforms=('tpu',)).cost_analysis()['flops']


def compile_step(program, options, layout, mesh):
  """Returns the compiled bilevel step of the layout's members; batches are split over 'data' of the mesh."""
  step, state = search_step(program, options, program.unroll)

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
  arguments = for_members(state), for_members(batch_shapes(program, options), 'data'), for_members(hyper)
  lowered = jax.jit(take_steps, donate_argnums=0).lower(*arguments)
  return lowered.compile(compiler_options={'exec_time_optimization_effort': options.effort} if options.effort else None)


# ---- what the compiled program executes ----


def executed_instructions(text):
  """Returns [(times, instruction)] of one run of a compiled program; loops count with their turns.

  Of a conditional, the branch with most cycles counts.

  Args:
    text: the compiled program (HLO).

  Raises:
    ValueError: a loop whose number of turns the compiler does not know.
  """
  blocks = re.split(r'\n(?=(?:ENTRY )?%[\w.\-]+ \()', text)
  computations = {re.search(r'%([\w.\-]+) \(', block)[1]: block for block in blocks[1:]}
  entry = next(name for name, block in computations.items() if block.startswith('ENTRY'))

  @functools.cache
  def instructions_of(name):
    lines = computations[name].splitlines()[1:]
    return [instruction for line in lines for instruction in [(1, line), *called_by(line)]]

  def called_by(line):
    if ' while(' in line:
      turns = count_turns(line, computations)
      return [(turns * times, called) for times, called in instructions_of(named_in(line, 'body'))]
    if ' call(' in line:
      return instructions_of(named_in(line, 'to_apply'))
    if ' conditional(' in line:
      listed = re.search(r'branch_computations=\{([^}]*)', line) or re.search(r'(true_computation=.*)', line)
      branches = [instructions_of(name) for name in re.findall(r'%([\w.\-]+)', listed[1]) if name in computations]
      return max(branches, key=lambda branch: sum(times * cycles_of(called) for times, called in branch))
    return []

  return instructions_of(entry)


def cycles_of(line):
  """Returns the compiler's estimate for an instruction, or 0."""
  cycles = re.search(r'"estimated_cycles":"?(\d+)', line)
  return int(cycles[1]) if cycles else 0


def count_executed(text):
  """Returns the cycles and the collectives of one run of a compiled program, a Counter."""
  counts = collections.Counter()
  for times, line in executed_instructions(text):
    counts['cycles'] += times * cycles_of(line)
    if kind := re.search(rf' ({"|".join(COLLECTIVES)})(?:-start)?\(', line):
      counts[kind[1]] += times
  return counts


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


def layouts(name, chips, one_search):
  """Returns the layouts to compile: one search over all chips, one search on each chip, and one on each four chips."""
  chosen = [Layout(1, chips, members=1)]
  if one_search:
    return chosen
  if chips > 1:
    chosen.append(Layout(chips, 1, members=chips))
  elif name == 'nas_bench_201':
    chosen += [Layout(1, 1, members=8, strategy=strategy) for strategy in STRATEGIES]
  if chips > 4 and name == 'nas_bench_201':
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


def print_costliest(text, number):
  """Prints the instructions with most cycles: million cycles of all turns, turns, shape with layout, name in JAX."""
  costs = [(times * cycles_of(line), times, line) for times, line in executed_instructions(text) if cycles_of(line)]
  for cycles, times, line in sorted(costs, key=lambda cost: -cost[0])[:number]:
    shape = re.search(r'= (.*?) [\w\-]+\(', line)[1]
    name = re.search(r'op_name="([^"]*)"', line)
    print(f'{cycles / 1e6:.3f} in {times} turns: {shape}, {name and name[1]}', flush=True)


def measure_slice(name, slice_name, options, flops):
  """Prints a row for each layout of a program, given by name, on a slice."""
  bounds = {'chips_per_host_bounds': (1, 1, 1)} if slice_name.endswith('1x1') else {}
  chips = np.array(topologies.get_topology_desc(slice_name, 'tpu', **bounds).devices)
  for layout in layouts(name, len(chips), options.one_search):
    grid = chips.reshape(layout.population, layout.data)
    mesh = Mesh(grid, ('population', 'data'), axis_types=(AxisType.Auto,) * 2)
    started = time.process_time()
    compiled = compile_step(PROGRAMS[name], options, layout, mesh)
    seconds = time.process_time() - started
    flops_a_chip = flops * layout.members / len(chips)
    print_row(f'{name}, {slice_name}, {layout}', compiled, seconds, layout.members, flops_a_chip)
    print_costliest(compiled.as_text(), options.costliest)


def parse_arguments():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--slices', default='v5e:1x1,v5e:2x2,v5e:4x4,v5e:8x8')
  parser.add_argument('--programs', default='nas_bench_201,darts', help=f'some of {", ".join(PROGRAMS)}')
  parser.add_argument('--one-search', action='store_true', help='compile no populations')
  parser.add_argument('--channels', type=int, default=16)
  parser.add_argument('--depth', type=int, default=0, help='cells per stage (5), or in all (8); layers per stage (4)')
  parser.add_argument('--batch-size', type=int, default=64)
  parser.add_argument('--dtype', choices=('float32', 'bfloat16'), default='bfloat16')
  parser.add_argument('--effort', type=float, default=0.0, help='effort of the compiler for speed, -1 … 0')
  parser.add_argument('--costliest', type=int, default=0, help='number of fusions to list')
  options = parser.parse_args()
  options.programs = options.programs.split(',')
  if unknown := sorted(set(options.programs) - set(PROGRAMS)):
    parser.error(f'--programs={",".join(unknown)}: expected some of {", ".join(PROGRAMS)}')
  return options


def main():
  options = parse_arguments()
  jax.config.update('jax_platforms', 'cpu')  # libtpu compiles only
  # Otherwise libtpu asks the network which machine this is, and lets only one process load it.
  os.environ |= {'TPU_SKIP_MDS_QUERY': '1', 'TPU_ACCELERATOR_TYPE': 'v5litepod-16', 'TPU_WORKER_HOSTNAMES': 'localhost'}
  os.environ['ALLOW_MULTIPLE_LIBTPU_LOAD'] = '1'
  print('| program, slice, mesh (population × data) | MiB a chip | GFLOP a chip | collectives a step | ', end='')
  print('cycles, 10⁶ | projected steps/s | compile, CPU s |')
  print('|---|---|---|---|---|---|---|', flush=True)
  for name in options.programs:
    flops = step_flops(PROGRAMS[name], options)
    for slice_name in options.slices.split(','):
      measure_slice(name, slice_name, options, flops)


if __name__ == '__main__':
  main()

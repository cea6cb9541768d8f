"""Measures the seconds of a bilevel step with each hypergradient and each relaxation, and the ratio to plain DARTS.

  python benchmarks/methods.py [--depth 1] [--batch-size 64] [--rounds 5] [--only 'PART; …']
  python benchmarks/methods.py --space darts --depth 8 --batch-size 32 --scan --steps 1 --rounds 3
  python benchmarks/methods.py --space mobile --batch-size 32 --scan --steps 1 --rounds 3
  python benchmarks/methods.py --space s1 --depth 8 --batch-size 32 --scan --steps 1 --rounds 3 --only 'PART; …'

All parts run in one process and take turns. A round is one dispatch of --steps steps of every part. The script prints
the table of README.md. The space mobile has one depth, so --depth has no effect there. It has no parts that need cells.
"""

import argparse
import sys

import jax
from step import CompiledSteps, make_batch, search_program
from timing import seconds_a_step, spread

import beta_darts_jax as bd
from beta_darts_jax.method.optimizers import weight_sgd_oles
from beta_darts_jax.runtime.devices import make_mesh, set_up
from beta_darts_jax.spaces.space import make_space

SPACES = {
  'nas_bench_201': (bd.NAS_BENCH_201, 'cells_per_stage'),
  'darts': (bd.DARTS, 'layers'),
  **{name: (make_space(name), 'layers') for name in ('s1', 's2', 's3', 's4')},
  'mobile': (bd.MOBILE, ''),
}  # and the name of their depth, if it may vary
# name → (arguments of make_search_step, attributes of the supernet)
PARTS = {
  'first order, softmax': ({}, {}),
  'β-DARTS': ({'regularizer': 'beta_decay'}, {}),
  'second order': ({'hypergradient': 'second_order'}, {}),
  'finite difference': ({'hypergradient': 'finite_difference'}, {}),
  'implicit, Neumann of 10 terms': ({'hypergradient': 'implicit'}, {}),
  'Λ-DARTS': ({'regularizer': 'lambda_darts', 'order': 'weights_first'}, {}),
  'Λ-DARTS, finite difference': ({'regularizer': 'lambda_darts_finite_difference', 'order': 'weights_first'}, {}),
  'SDARTS-RS': ({'relaxation': bd.Relaxation(perturbation='random')}, {}),
  'SDARTS-ADV': ({'relaxation': bd.Relaxation(perturbation='adversarial')}, {}),
  'PC-DARTS, K=4': ({}, {'partial_channels': 4}),  # and edge weights
  'GDAS': (
    {'relaxation': bd.Relaxation(sampling='gumbel'), 'order': 'weights_first'},
    {'single_path': True, 'undrawn_gradient': True},
  ),
  'ProxylessNAS': (
    {'relaxation': bd.Relaxation(sampling='two_paths'), 'order': 'weights_first'},
    {'single_path': True, 'paths': 2},
  ),
  'SNAS': ({'relaxation': bd.Relaxation(sampling='soft_gumbel')}, {}),
  'DrNAS': ({'relaxation': bd.Relaxation(sampling='pathwise_dirichlet')}, {}),
  'DrNAS, gamma variables': ({'relaxation': bd.Relaxation(sampling='dirichlet')}, {}),
  'DARTS-': ({'relaxation': bd.Relaxation(auxiliary_skip=True)}, {}),
  'FairDARTS': ({'regularizer': 'zero_one', 'relaxation': bd.Relaxation(sampling='sigmoid')}, {}),
  'OLES': ({'weight_optimizer': weight_sgd_oles}, {}),
}

NEED_CELLS = ('Λ-DARTS', 'Λ-DARTS, finite difference', 'PC-DARTS, K=4', 'DARTS-')


def parse_arguments():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--space', choices=SPACES, default='nas_bench_201')
  parser.add_argument('--channels', type=int, default=16)
  parser.add_argument('--depth', type=int, default=1, help='cells per stage, or cells of the DARTS supernet')
  parser.add_argument('--batch-size', type=int, default=64)
  parser.add_argument('--steps', type=int, default=4, help='steps of a dispatch')
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--scan', action='store_true', help='compile equal cells and edges once, as the body of a loop')
  parser.add_argument('--only', default='', help=f'some of: {"; ".join(PARTS)}, separated by semicolons')
  options = parser.parse_args()
  parts = [name for name in PARTS if options.space != 'mobile' or name not in NEED_CELLS]
  options.only = [name.strip() for name in options.only.split(';') if name.strip()] or parts
  if unknown := set(options.only) - set(parts):
    parser.error(f'--only={"; ".join(unknown)}: expected some of {"; ".join(parts)}')
  return options


def compile_part(name, options, batch):
  """Returns the CompiledSteps of a part."""
  (parts, attributes), (space, depth) = PARTS[name], SPACES[options.space]
  if 'partial_channels' in attributes:
    parts = {**parts, 'relaxation': bd.Relaxation(edges=space.edges)}
  sizes = {depth: options.depth} if depth else {}
  supernet = bd.Supernet(space, 10, channels=options.channels, unroll=not options.scan, **sizes, **attributes)
  hyper = bd.Hyperparameters(beta_decay_weight=50.0, perturbation=0.1, alignment_weight=0.1, zero_one_weight=10.0)
  mesh = make_mesh(options.batch_size, data=1)
  return CompiledSteps(*search_program(supernet, hyper, **{'regularizer': (), **parts}), batch, mesh)


def main():
  options = parse_arguments()
  set_up(cluster='none')
  jax.config.update('jax_enable_compilation_cache', False)  # else the seconds of compilation may be those of a cache
  batch = make_batch(options.batch_size)
  programs = {}
  for name in options.only:
    print(f'compiling {name}', file=sys.stderr)
    programs[name] = compile_part(name, options, batch)
  print(f'timing {len(programs)} parts', file=sys.stderr)
  for program in programs.values():
    program.run(options.steps)  # the first round is not measured
  rounds = [
    {name: seconds_a_step(program.run, options.steps) for name, program in programs.items()}
    for _ in range(options.rounds)
  ]
  first = options.only[0]
  print(f'| part | trace and compile, s | temporary, GiB | s a step | × {first} |\n|---|---|---|---|---|')
  for name, program in programs.items():
    prepared = program.trace_seconds + program.compile_seconds
    seconds, ratios = [r[name] for r in rounds], [r[name] / r[first] for r in rounds]
    times = f'{spread(seconds, ".3g")} | {spread(ratios, ".3g")}'
    print(f'| {name} | {prepared:.0f} | {program.temporary_bytes / 2**30:.2f} | {times} |')


if __name__ == '__main__':
  main()

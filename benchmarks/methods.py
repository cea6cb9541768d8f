"""What each hypergradient and each relaxation costs: seconds a bilevel step, beside plain first-order DARTS.

  python benchmarks/methods.py [--depth 1] [--batch-size 64] [--rounds 5] [--only 'PART; …']

One process, in turns: a round is one dispatch of --steps steps of every part. Prints the table of README.md.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

import beta_darts_jax as bd
from beta_darts_jax.method.hypergradients import finite_difference, implicit, second_order
from beta_darts_jax.runtime.devices import set_up

SPACE = bd.NAS_BENCH_201
# name → (arguments of make_search_step, attributes of the supernet)
PARTS = {
  'first order, softmax': ({}, {}),
  'second order': ({'hypergradient': second_order}, {}),
  'finite difference': ({'hypergradient': finite_difference}, {}),
  'implicit, Neumann of 10 terms': ({'hypergradient': implicit}, {}),
  'Λ-DARTS': ({'regularizer': [bd.REGULARIZERS['lambda_darts']]}, {}),
  'SDARTS-RS': ({'relaxation': bd.Relaxation(perturbation='random')}, {}),
  'SDARTS-ADV': ({'relaxation': bd.Relaxation(perturbation='adversarial')}, {}),
  'PC-DARTS, K=4': ({'relaxation': bd.Relaxation(edges=SPACE.edges)}, {'partial_channels': 4}),
  'GDAS': ({'relaxation': bd.Relaxation('gumbel')}, {'single_path': True}),
  'DrNAS': ({'relaxation': bd.Relaxation('dirichlet')}, {}),
  'DARTS-': ({'relaxation': bd.Relaxation(auxiliary_skip=True)}, {}),
}


def arguments():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--channels', type=int, default=16)
  parser.add_argument('--depth', type=int, default=1, help='cells a stage')
  parser.add_argument('--batch-size', type=int, default=64)
  parser.add_argument('--steps', type=int, default=4, help='of a dispatch')
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--scan', action='store_true', help='equal cells and edges as one compiled body')
  parser.add_argument('--only', default='', help=f'some of: {"; ".join(PARTS)}, separated by semicolons')
  options = parser.parse_args()
  options.only = [name.strip() for name in options.only.split(';')] if options.only else list(PARTS)
  if unknown := set(options.only) - set(PARTS):
    parser.error(f'--only: {"; ".join(unknown)} unknown, allowed are {"; ".join(PARTS)}')
  return options


def program_of(name, options, batch):
  """(run(steps), seconds to trace and compile, bytes of temporary memory)."""
  how, attributes = PARTS[name]
  how = {'regularizer': ()} | how
  relaxation = how.get('relaxation', bd.Relaxation())
  supernet = bd.Supernet(
    SPACE, 10, channels=options.channels, cells_per_stage=options.depth, unroll=not options.scan, **attributes
  )
  alphas = SPACE.init_alphas(jax.random.key(0))
  edge_logits = relaxation.init_edge_logits(jax.random.key(1), SPACE)
  hyper = jax.tree.map(np.float32, bd.Hyperparameters(perturbation=0.1, alignment_weight=0.1))
  betas = relaxation.evaluated((alphas, edge_logits), hyper)
  variables = jax.jit(supernet.init)(jax.random.key(2), batch[0][:1], betas)
  step = bd.make_search_step(supernet, **how)
  chunk = lambda state, batch, steps: jax.lax.fori_loop(0, steps, lambda _, s: step(s, batch, batch, hyper)[0], state)
  held = [bd.SearchState.create(variables, alphas, edge_logits=edge_logits)]
  begun = time.perf_counter()
  program = jax.jit(chunk, donate_argnums=0).lower(held[0], batch, 1).compile()
  compiled = time.perf_counter() - begun

  def run(steps):
    held[0] = jax.block_until_ready(program(held[0], batch, steps))

  return run, compiled, program.memory_analysis().temp_size_in_bytes


def main():
  options = arguments()
  set_up(cluster='none')
  batch = jax.random.normal(jax.random.key(3), (options.batch_size, 32, 32, 3)), jnp.arange(options.batch_size) % 10
  programs = {name: program_of(name, options, batch) for name in options.only}
  seconds = {name: [] for name in programs}
  for _ in range(options.rounds + 1):
    for name, (run, *_) in programs.items():
      begun = time.perf_counter()
      run(options.steps)
      seconds[name].append((time.perf_counter() - begun) / options.steps)
  first = options.only[0]
  print(f'| part | trace and compile, s | temporary, GiB | s a step | × {first} |\n|---|---|---|---|---|')
  for name, (_, compiled, size) in programs.items():
    own = seconds[name][1:]  # the first round warms up
    ratios = [a / b for a, b in zip(own, seconds[first][1:], strict=True)]
    spread = lambda values: f'{statistics.median(values):.3g} ({min(values):.3g} … {max(values):.3g})'
    print(f'| {name} | {compiled:.0f} | {size / 2**30:.2f} | {spread(own)} | {spread(ratios)} |')


if __name__ == '__main__':
  main()

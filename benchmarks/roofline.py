"""What a bilevel step must compute and move, and what the machine can: the floor under its time.

  python benchmarks/roofline.py [--depth 5]

FLOPs and bytes are those of the compiled program (XLA's cost analysis: every fusion reads its inputs and writes its
outputs once; caches may serve some of it). Ceilings are measured: a matrix product of side 2048, and a sum of two
arrays of 256 MB each.
"""

import argparse
import time

import jax
import jax.numpy as jnp
from step import search_program

import beta_darts_jax as bd
from beta_darts_jax.runtime.devices import set_up


def best(function, *arguments, rounds=5):
  """The least seconds of a call, after a first one."""
  jax.block_until_ready(function(*arguments))
  seconds = []
  for _ in range(rounds):
    begun = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    seconds.append(time.perf_counter() - begun)
  return min(seconds)


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--depth', type=int, default=5, help='cells a stage')
  options = parser.parse_args()
  set_up(cluster='none')
  side, length = 2048, 64 * 2**20
  square = jnp.ones((side, side))
  flops_ceiling = 2 * side**3 / best(jax.jit(jnp.matmul), square, square)
  array = jnp.ones(length)
  bytes_ceiling = 3 * 4 * length / best(jax.jit(jnp.add), array, array + 1)

  step, state = search_program(bd.NAS_BENCH_201, channels=16, cells_per_stage=options.depth, unroll=True)
  batch = jnp.ones((64, 32, 32, 3)), jnp.arange(64) % 10
  cost = jax.jit(step).lower(state, batch).compile().cost_analysis()
  flops, moved = cost['flops'], cost['bytes accessed']
  print('| | a step | ceiling | floor, s |\n|---|---|---|---|')
  print(f'| FLOPs | {flops / 1e9:.1f} G | {flops_ceiling / 1e9:.0f} G/s | {flops / flops_ceiling:.2f} |')
  print(f'| bytes | {moved / 1e9:.1f} G | {bytes_ceiling / 1e9:.1f} G/s | {moved / bytes_ceiling:.2f} |')


if __name__ == '__main__':
  main()

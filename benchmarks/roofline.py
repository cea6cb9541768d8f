"""Computes a lower bound for the time of a bilevel step: its FLOPs and bytes, divided by the rates of the machine.

  python benchmarks/roofline.py [--depth 5]

FLOPs and bytes are those of the compiled program (XLA's cost analysis: every fusion reads its inputs and writes its
outputs once, although caches may serve a part of it). The ceilings are measured: a matrix product of side 2048, and a
sum of two arrays of 256 MB each.
"""

import argparse

import jax
import jax.numpy as jnp
from step import make_batch, search_program
from timing import seconds_a_step

import beta_darts_jax as bd
from beta_darts_jax.runtime.devices import set_up


def least_seconds(function, *arguments, rounds=5):
  """Returns the least seconds of a call, after a first one."""

  def call(_):
    jax.block_until_ready(function(*arguments))

  call(1)
  return min(seconds_a_step(call, 1) for _ in range(rounds))


def measure_ceilings(side=2048, length=64 * 2**20):
  """Returns (FLOP per second, bytes per second) of the machine."""
  square, array = jnp.ones((side, side)), jnp.ones(length)
  flops = 2 * side**3 / least_seconds(jax.jit(jnp.matmul), square, square)
  return flops, 3 * 4 * length / least_seconds(jax.jit(jnp.add), array, array + 1)


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--depth', type=int, default=5, help='cells per stage')
  parser.add_argument('--channels', type=int, default=16)
  parser.add_argument('--batch-size', type=int, default=64)
  options = parser.parse_args()
  set_up(cluster='none')
  flops_ceiling, bytes_ceiling = measure_ceilings()
  supernet = bd.Supernet(bd.NAS_BENCH_201, 10, channels=options.channels, cells_per_stage=options.depth, unroll=True)
  step, state = search_program(supernet)
  cost = jax.jit(step).lower(state, make_batch(options.batch_size)).compile().cost_analysis()
  flops, moved = cost['flops'], cost['bytes accessed']
  print('| | a step | ceiling | floor, s |\n|---|---|---|---|')
  print(f'| FLOPs | {flops / 1e9:.1f} G | {flops_ceiling / 1e9:.0f} G/s | {flops / flops_ceiling:.2f} |')
  print(f'| bytes | {moved / 1e9:.1f} G | {bytes_ceiling / 1e9:.1f} G/s | {moved / bytes_ceiling:.2f} |')


if __name__ == '__main__':
  main()

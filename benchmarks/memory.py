"""Prints the temporary memory of a training step of a stage against the number of candidate operations.

  python benchmarks/memory.py [--channels 16] [--batch-size 32]

The stage is the second one of the space `mobile`, with four layers, on images of 32×32 pixels. The step is the gradient
of the weights and of β. The memory is XLA's number for the compiled program; nothing runs.
"""

import argparse

import jax
import jax.numpy as jnp

import beta_darts_jax as bd
from beta_darts_jax.networks.mobile.skeleton import stage_plan
from beta_darts_jax.networks.mobile.stages import SearchStage

CANDIDATES = {
  '2, of 3×3': ('mb_conv_3x3_e3', 'mb_conv_3x3_e6'),
  '2, of 7×7': ('mb_conv_7x7_e3', 'mb_conv_7x7_e6'),
  '4, of 3×3 and 5×5': ('mb_conv_3x3_e3', 'mb_conv_3x3_e6', 'mb_conv_5x5_e3', 'mb_conv_5x5_e6'),
  'all 7': bd.MOBILE.candidates('normal')[0],
}
FORMS = {
  'all operations': {},
  'one path (GDAS)': {'single_path': True},
  'two paths (ProxylessNAS)': {'single_path': True, 'paths': 2},
}


def temporary_mib(operations, channels: int, batch_size: int, **form) -> float:
  """Returns the temporary memory of the compiled step, in MiB."""
  space = bd.SearchSpace('stage', 'mobile', nodes=4, operations=operations)
  first, second = stage_plan(channels, (32, 32))[:2]
  stage = SearchStage(space, second, **form)
  x = jax.ShapeDtypeStruct((batch_size, 32, 32, first.channels), jnp.float32)
  betas = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in space.alpha_shapes.items()}

  def init(key, x, betas):
    return stage.init(key, x, betas, train=True)

  def loss(params, betas, stats, x):
    y, updates = stage.apply({'params': params, 'batch_stats': stats}, x, betas, train=True, mutable=['batch_stats'])
    return jnp.sum(jnp.square(y)), updates

  variables = jax.eval_shape(init, jax.random.key(0), x, betas)
  step = jax.jit(jax.grad(loss, argnums=(0, 1, 3), has_aux=True))
  compiled = step.lower(variables['params'], betas, variables['batch_stats'], x).compile()
  return compiled.memory_analysis().temp_size_in_bytes / 2**20


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--channels', type=int, default=16, help='C')
  parser.add_argument('--batch-size', type=int, default=32)
  options = parser.parse_args()
  print(f'| candidates | {" | ".join(FORMS)} |\n|---|{"---|" * len(FORMS)}')
  for name, operations in CANDIDATES.items():
    sizes = (temporary_mib(operations, options.channels, options.batch_size, **form) for form in FORMS.values())
    print(f'| {name} | {" | ".join(f"{size:.0f}" for size in sizes)} |', flush=True)


if __name__ == '__main__':
  main()

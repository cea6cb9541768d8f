"""Measures the milliseconds of each operation of a search on the device at hand, for the regularizer `cost`.

  python benchmarks/latency.py --config nas_bench_201:cifar10 --out latency.json

Then search with the same config and --config.cost.unit=latency.json. The script measures each operation of the space at
each size that the supernet of the config has. --config.KEY=VALUE changes a value, as in a search. The images have
config.data.image_size, or --image_size if the config keeps the size of the data set.
"""

import json
import pathlib
import statistics
import sys
import time

import jax
from absl import app, flags
from ml_collections import config_flags

from beta_darts_jax import InputError
from beta_darts_jax.command.parsing import find_configs
from beta_darts_jax.config.check import check
from beta_darts_jax.networks.costs import PlacedOperation, placed_operations
from beta_darts_jax.runtime.devices import make_mesh, set_up
from beta_darts_jax.runtime.environment import environment
from beta_darts_jax.search.setup import make_search_space, make_supernet

CONFIG = config_flags.DEFINE_config_file('config', None, 'the config of the search')
OUT = flags.DEFINE_string('out', 'latency.json', 'the file to write')
IMAGE_SIZE = flags.DEFINE_integer(
  'image_size', 32, 'height and width of the images in pixels if config.data.image_size is 0'
)
BATCH_SIZE = flags.DEFINE_integer('batch_size', 1, 'number of images in a call of an operation')
CALLS = flags.DEFINE_integer('calls', 20, 'number of calls in one program, so that its start counts little')
ROUNDS = flags.DEFINE_integer('rounds', 7, 'number of runs of the program; the median counts')
flags.mark_flag_as_required('config')


def measure(operation: PlacedOperation, batch_size: int, calls: int, rounds: int) -> float:
  """Returns the milliseconds of one call in evaluation, in float32."""
  module, variables = operation.make(), jax.jit(operation.init)()
  images = jax.random.normal(jax.random.key(0), (calls, batch_size, *operation.image_shape))

  @jax.jit
  def call_all(variables, images):
    def call(images):
      return module.apply(variables, images, train=False, rngs={'draw': jax.random.key(0)})

    return jax.lax.map(call, images)

  jax.block_until_ready(call_all(variables, images))  # compiles
  seconds = []
  for _ in range(rounds):
    started = time.perf_counter()
    jax.block_until_ready(call_all(variables, images))
    seconds.append(time.perf_counter() - started)
  return 1000 * statistics.median(seconds) / calls


def main(argv):
  del argv
  set_up(cluster='none')
  try:
    config = check(CONFIG.value)
    supernet = make_supernet(config, make_search_space(config), num_classes=10, single_path=False)
  except InputError as error:
    print('error:', error, file=sys.stderr)
    sys.exit(2)
  size = config.data.image_size or IMAGE_SIZE.value
  operations = sorted({operation for *_, operation in placed_operations(supernet, (size, size))})
  rows = []
  for operation in operations:
    milliseconds = measure(operation, BATCH_SIZE.value, CALLS.value, ROUNDS.value)
    rows.append(operation._asdict() | {'milliseconds': milliseconds})
    names = ', '.join(f'{name}={value}' for name, value in operation._asdict().items())
    print(f'{milliseconds:9.4f} ms  {names}', flush=True)
  sizes = {flag.name: flag.value for flag in (BATCH_SIZE, CALLS, ROUNDS)}
  values = sizes | {'operations': rows, 'environment': environment(make_mesh(1, data=1))}
  pathlib.Path(OUT.value).write_text(json.dumps(values, indent=1) + '\n')
  print(OUT.value)


if __name__ == '__main__':
  try:
    sys.argv[:] = find_configs(sys.argv)
  except InputError as error:
    print('error:', error, file=sys.stderr)
    sys.exit(2)
  app.run(main)

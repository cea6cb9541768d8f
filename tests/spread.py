"""Short searches on meshes of virtual CPU devices, for tests/runtime/test_devices.py, which starts the processes.

  python tests/spread.py OUT.npz CASES [PROCESSES PROCESS PORT]

CASES is a JSON list of {name, population, data, members: [seed, …], steps, dtype, strategy, ulp, unroll, diverging}.
For each case OUT.npz holds NAME/0, NAME/1 and NAME/2: the members' α [M, 3, 3], their training losses summed over the
steps [M], and the weights of their stems [M, …]. The processes have eight devices together.
"""

import dataclasses
import json
import sys

import jax
import numpy as np

from beta_darts_jax import Hyperparameters, SearchSpace, SearchState, Supernet, make_search_step, softmax_betas
from beta_darts_jax.config import default
from beta_darts_jax.config.check import check
from beta_darts_jax.data import Augmentation, Dataset
from beta_darts_jax.runtime.devices import compile_together, make_mesh, named_sharding, replicate, set_up, shard
from beta_darts_jax.runtime.processes import is_process_zero
from beta_darts_jax.search.programs import make_train
from beta_darts_jax.search.setup import make_search_setup

BATCH, IMAGES = 16, 64
SPACE = SearchSpace('small', 'nas_bench_201', 2, ('skip_connect', 'nor_conv_1x1', 'nor_conv_3x3'))
SUPERNETS = [Supernet(SPACE, num_classes=4, channels=2, cells_per_stage=1, unroll=u) for u in (False, True)]
AUGMENTATION = Augmentation((0.5,) * 3, (0.25,) * 3, crop_padding=1)


def make_setup(mesh, strategy):
  """A SearchSetup, of which make_train reads the mesh, the strategy, the augmentation and the sizes."""
  config = default()
  config.search.batch_size = BATCH
  config.parallel.data, config.population.seeds = mesh.shape['data'], mesh.shape['population']
  halves = tuple(np.concatenate(arrays) for arrays in zip(half(0), half(1), strict=True))
  setup = make_search_setup(check(config), Dataset('random', halves, half(0), 4, (0.5,) * 3, (0.25,) * 3))
  assert setup.session.steps_per_epoch == IMAGES // BATCH
  return dataclasses.replace(setup, mesh=mesh, strategy=strategy, augmentation=AUGMENTATION)


def half(seed):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (IMAGES, 8, 8, 3), np.uint8), np.arange(IMAGES, dtype=np.int32) % 4


@jax.jit
def initial_state(seed):
  alphas = SPACE.init_alphas(jax.random.key(seed))
  images = jax.numpy.zeros((1, 8, 8, 3))
  variables = SUPERNETS[0].init(jax.random.key(seed), images, softmax_betas(alphas))
  return SearchState.create(variables, alphas, seed)


def make_state(seed, dtype, ulp):
  """The state of a member at step 0; with `ulp`, the weights of the stem are one ulp larger."""

  def cast(x):
    return np.asarray(x).astype(dtype) if x.dtype.kind == 'f' else np.asarray(x)

  state = jax.tree.map(cast, initial_state(np.uint32(seed)))
  if ulp:
    network = state.params['network']
    kernel = np.nextafter(network['stem_conv']['kernel'], dtype(np.inf))
    state = state.replace(params={'network': network | {'stem_conv': {'kernel': kernel}}})
  return state


def make_hyper(seed, dtype, diverges=False):
  """Hyperparameters of a member; λ differs between members."""
  rate = {'learning_rate': 1e300} if diverges else {}
  hyper = Hyperparameters(alpha_learning_rate=3e-3, beta_decay_weight=5.0 * seed, **rate)
  return jax.tree.map(dtype, hyper)


PROGRAMS = {}


def run(population, data, members, steps, dtype, strategy='map', ulp=False, unroll=False, diverging=()):
  dtype = np.dtype(dtype).type
  mesh = make_mesh(BATCH, len(members), population, data)

  def stack(trees):
    return shard(jax.tree.map(lambda *x: np.stack(x), *trees), mesh, 'population')

  order = np.arange(IMAGES, dtype=np.int32).reshape(-1, BATCH)
  arguments = (
    stack([make_state(seed, dtype, ulp) for seed in members]),
    stack([order[:: 1 - 2 * (seed % 2)] for seed in members]),
    stack([make_hyper(seed, dtype, seed in diverging) for seed in members]),
    replicate((half(0), half(1)), mesh),
    replicate(np.int32(steps), mesh),
  )
  key = (population, data, len(members), dtype, strategy, unroll)
  if key not in PROGRAMS:
    train = make_train(make_search_step(SUPERNETS[unroll]), make_setup(mesh, strategy))
    lowered = jax.jit(train, out_shardings=named_sharding(mesh, 'population')).lower(*arguments)
    (PROGRAMS[key],) = compile_together(mesh, lowered)
  states = PROGRAMS[key](*arguments)
  kept = states.alphas['cell'], states.sums['train_loss'], states.params['network']['stem_conv']['kernel']
  return jax.device_get(jax.jit(lambda x: x, out_shardings=named_sharding(mesh))(kept))


def main():
  out, cases, *cluster = sys.argv[1:]
  processes, process, port = map(int, cluster or (1, 0, 0))
  coordinator = f'localhost:{port}' if port else ''
  set_up(cpu_devices=8 // processes, coordinator=coordinator, processes=processes, process=process)
  jax.config.update('jax_enable_x64', True)
  results = {}
  for case in json.loads(cases):
    name = case.pop('name')
    results |= {f'{name}/{i}': array for i, array in enumerate(run(**case))}
  if is_process_zero():
    np.savez(out, **results)


if __name__ == '__main__':
  main()

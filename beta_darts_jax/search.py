"""Searches, one or a population of them, from a config to genotypes: epochs, evaluation, derivation, checkpoints.

Legend: M members, which share the data and the program; a lone search is a population of one. What differs between
them has a leading axis M, split over the mesh's axis 'population'.
"""

import dataclasses
import functools
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from beta_darts_jax import population
from beta_darts_jax.bilevel import Hyperparameters, SearchState, make_search_step
from beta_darts_jax.data import Augmentation, Dataset, distinct_indices, epoch_order, normalize
from beta_darts_jax.diagnostics import make_one_shot, ranking_correlation
from beta_darts_jax.environment import environment
from beta_darts_jax.errors import InputError
from beta_darts_jax.evaluation import make_evaluate
from beta_darts_jax.loop import run_epochs
from beta_darts_jax.nas_bench_201 import DATASETS, NasBench201
from beta_darts_jax.operations import known_operations
from beta_darts_jax.parallel import Placement, each_member, is_first, make_mesh, over_population
from beta_darts_jax.regularizers import linear_ramp
from beta_darts_jax.skeletons import check_image_size
from beta_darts_jax.spaces import SearchSpace, customized, softmax_betas
from beta_darts_jax.supernet import Supernet
from beta_darts_jax.workdir import Workdir, write_json


def space_of(config) -> SearchSpace:
  """The search space that `config.space` describes. Raises InputError."""
  space = customized(**config.space.to_dict())
  known_operations(space.operation_names)
  return space


def check_sizes(config, dataset: Dataset) -> None:
  """Raises InputError where the space, the batches, the devices and the data do not fit: before anything is written."""
  smallest = min(len(labels) for _, labels in dataset.halves(config.data.fraction))
  batch_size = config.search.batch_size
  if batch_size > smallest:
    raise InputError(f'config.search.batch_size={batch_size}: allowed is up to {smallest}, half of the training images')
  check_image_size(dataset.image_shape[:2])
  training = len(dataset.train[1])
  if config.retrain.epochs and config.retrain.batch_size > training:
    raise InputError(f'config.retrain.batch_size={config.retrain.batch_size}: allowed is up to the data, {training}')
  mesh_of(config)


def members_of(config) -> list[dict]:
  """What sets the members of the run apart; of a lone search [{'seed': …}]."""
  varied = {name: config.population[name] for name in population.VARIED}
  return population.members(config.search.seed, config.population.seeds, varied)


def is_population(config) -> bool:
  """Whether the run reports members."""
  return population.is_asked_for(config.population)


def mesh_of(config) -> jax.sharding.Mesh:
  """The mesh of `config.parallel`. Raises InputError."""
  parallel = config.parallel
  return make_mesh(config.search.batch_size, len(members_of(config)), parallel.population, parallel.data)


def cosine(maximum: float, minimum: float, epoch: int, epochs: int) -> float:
  """Learning rate of an epoch: `maximum` in the first, towards `minimum` after the last."""
  return minimum + (maximum - minimum) * (1 + math.cos(math.pi * epoch / epochs)) / 2


def hyperparameters(search, epoch: int) -> Hyperparameters:
  """The scalars of an epoch, from a mapping with the keys of `config.search`."""
  b1, b2 = search['alpha_betas']
  return Hyperparameters(
    learning_rate=cosine(search['learning_rate'], search['learning_rate_min'], epoch, search['epochs']),
    momentum=search['momentum'],
    weight_decay=search['weight_decay'],
    clip_norm=search['clip_norm'],
    alpha_learning_rate=search['alpha_learning_rate'],
    alpha_b1=b1,
    alpha_b2=b2,
    alpha_weight_decay=search['alpha_weight_decay'],
    beta_decay_weight=linear_ramp(search['beta_decay_weight'], epoch, search['epochs']),
  )


def make_train(supernet, augmentation, batch_size: int, steps_per_epoch: int, mesh, strategy: str = 'map'):
  """Builds `train(states, orders, hypers, halves, stop) -> states`: bilevel steps of every member to number `stop`.

  `states`, `orders` [M, steps, B] and `hypers` are the members'; orders are the epoch's indices into the first of
  `halves`, the (images, labels) for the weights and for α; α's batch is drawn anew at every step from the second. A
  lone search ends early, at the step after it, when a loss is not finite.

  Args:
    supernet: a module.
    augmentation: (key, uint8 images) → float.
    batch_size: B.
    steps_per_epoch: steps.
    mesh: ('population', 'data').
    strategy: of parallel.each_member.
  """
  step = make_search_step(supernet)

  def batch(half, index, key):
    images, labels = half
    index = lax.with_sharding_constraint(index, PartitionSpec('data'))
    return augmentation(key, images[index]), labels[index]

  def bilevel_step(member, halves):
    state, order, hyper = member
    weights_half, alpha_half = halves
    key = jax.random.fold_in(jax.random.key(state.seed), state.step)
    draw_key, train_key, valid_key = jax.random.split(key, 3)
    valid_index = distinct_indices(draw_key, len(alpha_half[1]), batch_size)
    train_batch = batch(weights_half, order[state.step % steps_per_epoch], train_key)
    valid_batch = batch(alpha_half, valid_index, valid_key)
    return step(state, train_batch, valid_batch, hyper)[0]

  step_all = each_member(bilevel_step, strategy)

  def train(states, orders, hypers, halves, stop):
    lone = len(states.step) == 1

    def local(stack, shared):
      states, orders, hypers = stack
      halves, stop = shared

      def proceed(states):
        finite = jnp.isfinite(states.sums['train_loss'][0]) & jnp.isfinite(states.sums['alpha_loss'][0])
        return (states.step[0] < stop) & (finite if lone else True)

      return lax.while_loop(proceed, lambda states: step_all((states, orders, hypers), halves), states)

    return over_population(local, mesh)((states, orders, hypers), (halves, stop))

  return train


@dataclasses.dataclass
class Programs:
  """What `run` calls: compiled once, data already on the devices.

  Attributes:
    states: of the M members at step 0.
    steps_per_epoch: bilevel steps.
    train: (states, epoch, until) → states at step `until`; a lone state stops at the first non-finite loss.
    evaluate: states → (loss in nats, top-1, top-5 accuracy 0 … 1) [M] of the supernets on images of α's half.
    betas: states → {cell type: [M, E, O]} on the host.
    one_shot: (states, member, genotypes) → accuracies [n] of cells with the supernet's weights.
    compile_seconds: spent on it.
  """

  states: SearchState
  steps_per_epoch: int
  train: Callable
  evaluate: Callable
  betas: Callable
  one_shot: Callable
  compile_seconds: float


def build(config, dataset: Dataset, mesh) -> Programs:
  """Puts the data on the devices of `mesh` and compiles the programs of a search."""
  search, space, members = config.search, space_of(config), members_of(config)
  replicate, split = Placement(mesh), Placement(mesh, 'population')
  on_host = dataset.halves(config.data.fraction)
  halves = replicate(on_host)
  num_images = len(on_host[0][1])
  steps_per_epoch = num_images // search.batch_size
  evaluated = replicate(tuple(array[: search.evaluation_images or None] for array in on_host[1]))
  augmentation = Augmentation(dataset.mean, dataset.std, config.data.crop_padding, config.data.flip, config.data.cutout)
  prepare = lambda images: normalize(images, dataset.mean, dataset.std)
  dtype = None if config.supernet.dtype == 'float32' else jnp.dtype(config.supernet.dtype)
  sizes = {name: value for name, value in config.supernet.items() if name != 'dtype'}
  supernet = Supernet(space, dataset.num_classes, **sizes, dtype=dtype)
  strategy = 'map' if config.parallel.strategy == 'auto' else config.parallel.strategy

  def initial_state(seed, image):
    weights_key, alphas_key = jax.random.split(jax.random.key(seed))
    alphas = space.init_alphas(alphas_key)
    return SearchState.create(supernet.init(weights_key, image, softmax_betas(alphas)), alphas, seed)

  @functools.lru_cache(maxsize=1)
  def epoch_arguments(epoch):
    orders = [epoch_order(member['seed'], epoch, num_images, search.batch_size) for member in members]
    hypers = [hyperparameters(search.to_dict() | member, epoch) for member in members]
    return split((np.stack(orders), jax.tree.map(lambda *values: np.array(values, np.float32), *hypers)))

  def supernet_logits(state, images):
    betas = softmax_betas(state.alphas)
    return supernet.apply(variables_of(state), images, betas, rngs={'draw': jax.random.key(state.seed)})

  def variables_of(state):
    return {'params': state.params, 'batch_stats': state.batch_stats}

  devices = mesh.shape['data']  # that share a batch of evaluation, too
  size = max(1, min(250, len(evaluated[1])) // devices) * devices
  spread = lambda index: lax.with_sharding_constraint(index, PartitionSpec('data'))
  evaluate_one = make_evaluate(supernet_logits, prepare, size, spread)
  evaluate = each_member(lambda state, images: evaluate_one(state, *images), strategy)

  started = time.perf_counter()
  initial_states = each_member(initial_state, 'map')
  seeds = split(np.array([member['seed'] for member in members], np.uint32))
  arguments = seeds, replicate(np.zeros((1, *dataset.image_shape), np.float32))
  shapes = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=split.sharding),
    jax.eval_shape(initial_states, *arguments),
  )
  train = jax.jit(
    make_train(supernet, augmentation, search.batch_size, steps_per_epoch, mesh, strategy),
    donate_argnums=0,
    out_shardings=split.sharding,
  ).lower(shapes, *epoch_arguments(0), halves, replicate(np.int32(0)))
  evaluate = jax.jit(over_population(evaluate, mesh), out_shardings=replicate.sharding).lower(shapes, evaluated)
  initial_states = jax.jit(initial_states, out_shardings=split.sharding).lower(*arguments)
  with ThreadPoolExecutor() as pool:  # XLA compiles without Python's lock
    train, evaluate, initial_states = pool.map(lambda low: low.compile(), (train, evaluate, initial_states))

  betas = jax.jit(lambda alphas: jax.vmap(softmax_betas)(alphas), out_shardings=replicate.sharding)
  member_variables = jax.jit(
    lambda states, k: jax.tree.map(lambda x: x[k], variables_of(states)), out_shardings=replicate.sharding
  )

  one_shot_of = make_one_shot(supernet, prepare)

  def one_shot(states, member, genotypes):
    images, labels = (array[: config.benchmark.kendall_images] for array in halves[1])
    variables = member_variables(states, replicate(np.int32(member)))
    return one_shot_of(variables, genotypes, images, labels)

  return Programs(
    states=initial_states(*arguments),
    steps_per_epoch=steps_per_epoch,
    train=lambda states, epoch, until: train(states, *epoch_arguments(epoch), halves, replicate(np.int32(until))),
    evaluate=lambda states: jax.device_get(evaluate(states, evaluated)),
    betas=lambda states: jax.device_get(betas(states.alphas)),
    one_shot=one_shot,
    compile_seconds=time.perf_counter() - started,
  )


@dataclasses.dataclass
class Outcome:
  """A search that came to its end: its programs, its last states, the rows of metrics.jsonl."""

  programs: Programs
  states: SearchState
  rows: list[dict]


def run(config, dataset: Dataset, table: NasBench201 | None, workdir: Workdir, stop: threading.Event) -> Outcome | None:
  """Searches, or goes on where an interrupted run of the same config stopped.

  Args:
    config: checked, as from `config.check`.
    dataset: what to search on.
    table: the benchmark of the space, used when it knows the data set; or None.
    workdir: opened for this config.
    stop: when set, the states are saved after the steps under way and None is returned.

  Returns:
    What `summarize` takes; None when stopped.

  Raises:
    NonFiniteLoss: of all members, and the last good checkpoint stays.
  """
  search, space, members = config.search, space_of(config), members_of(config)
  table = table if dataset.name in DATASETS else None
  mesh = mesh_of(config)
  if changes := workdir.changes(environment(mesh)):
    print(f'this run began elsewhere, so its last bits may come out differently: {"; ".join(changes)}', flush=True)
  programs = build(config, dataset, mesh)

  def cell_of(betas, k):
    beta = {cell_type: value[k] for cell_type, value in betas.items()}
    return beta, space.derive(beta) if all(np.isfinite(value).all() for value in beta.values()) else None

  def rows_of(states, epoch, finite):
    losses, accuracies, _ = programs.evaluate(states)
    finite = finite & np.isfinite(losses)
    betas = programs.betas(states)
    for k, member in enumerate(members):
      hyper = hyperparameters(search.to_dict() | member, epoch)
      beta, genotype = cell_of(betas, k)
      genotype = genotype if finite[k] else None
      row = {'member': k, 'seed': member['seed']} if is_population(config) else {}
      row |= {
        'valid_loss': float(losses[k]),
        'valid_accuracy': float(accuracies[k]) if genotype else math.nan,
        'beta_decay_weight': hyper.beta_decay_weight,
        'learning_rate': hyper.learning_rate,
        'genotype': genotype and str(genotype),
        'betas': {cell_type: value.tolist() for cell_type, value in beta.items()} if genotype else None,
      }
      yield row | ({'benchmark': table.summary(genotype)} if table and genotype else {})

  done = run_epochs(
    programs.states,
    programs.train,
    rows_of,
    workdir,
    stop,
    epochs=search.epochs,
    steps_per_epoch=programs.steps_per_epoch,
    steps_per_dispatch=search.steps_per_dispatch,
    images_per_step=2 * search.batch_size,
    checkpoint_every=config.checkpoint.every_steps,
    tensorboard=config.tensorboard,
    shown=lambda states: {} if is_population(config) else {'genotype': cell_of(programs.betas(states), 0)[1]},
  )
  return done and Outcome(programs, *done)


def summarize(config, dataset: Dataset, table: NasBench201 | None, workdir: Workdir, outcome: Outcome) -> dict:
  """Writes the genotypes; returns what result.json holds.

  Of a lone search: genotype, accuracies, benchmark, seconds, environment; genotype.json has the cell. Of a population:
  the same of each of `members`, their `settings` with mean and spread over seeds; members/K/genotype.json have the
  cells.
  """
  members, programs = members_of(config), outcome.programs
  results = []
  for k, (member, last) in enumerate(zip(members, outcome.rows[-len(members) :], strict=True)):
    result = {'genotype': last['genotype']}
    result |= {name: last['genotype'] and last[name] for name in ('train_accuracy', 'valid_accuracy')}
    if last['genotype']:
      folder = workdir.path / 'members' / str(k) if is_population(config) else workdir.path
      _write_genotype(folder, config, last['genotype'])
    if 'benchmark' in last:
      result['benchmark'] = last['benchmark']
      if config.benchmark.kendall_cells:
        accuracies = functools.partial(programs.one_shot, outcome.states, k)
        result['kendall_tau'] = ranking_correlation(table, dataset.name, accuracies, config.benchmark.kendall_cells)
    results.append(({'member': k} | member if is_population(config) else {}) | result)
  whole = {'members': results, 'settings': population.summarize(results)} if is_population(config) else results[0]
  whole = whole | {'dataset': dataset.name}
  if table and dataset.name in DATASETS:
    whole['baselines'] = table.baselines(dataset.name)
  # train: of all processes that worked on the run; what a killed one did since its last epoch is not counted
  whole['seconds'] = {
    'compile': round(programs.compile_seconds, 2),
    'train': round(sum(row['seconds'] for row in outcome.rows[:: len(members)]), 2),
  }
  return whole | {'environment': environment(outcome.states.step.sharding.mesh)}


def _write_genotype(folder, config, genotype: str) -> None:
  """genotype.json, as `workdir.find_genotype` reads it."""
  if is_first():
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / 'genotype.json', {'space': config.space.to_dict(), 'genotype': genotype})

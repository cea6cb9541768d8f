"""A search as compiled programs: what a config says, put together from the parts.

Legend: M members, which share the data and the program; a lone search is a population of one. What differs between
them has a leading axis M, split over the mesh's axis 'population'.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from beta_darts_jax.config.check import check_profile
from beta_darts_jax.config.schema import is_asked_for, varied
from beta_darts_jax.data.dataset import (
  Augmentation,
  Dataset,
  check_augmentation,
  distinct_indices,
  epoch_order,
  normalize,
)
from beta_darts_jax.errors import InputError
from beta_darts_jax.method.bilevel import make_search_step
from beta_darts_jax.method.diagnostics import make_diagnose, make_one_shot
from beta_darts_jax.method.evaluation import make_evaluate
from beta_darts_jax.method.hypergradients import HYPERGRADIENTS
from beta_darts_jax.method.optimizers import Hyperparameters
from beta_darts_jax.method.regularizers import REGULARIZERS, SCHEDULES
from beta_darts_jax.method.relaxations import Relaxation
from beta_darts_jax.method.state import SearchState
from beta_darts_jax.networks.operations import known_operations
from beta_darts_jax.networks.skeletons import check_image_size
from beta_darts_jax.networks.supernet import Supernet
from beta_darts_jax.runtime.devices import Placement, compile_together, make_mesh, map_members, shard_population
from beta_darts_jax.search import population
from beta_darts_jax.spaces.space import SearchSpace, make_space

# ---- what a config says ----


def space_of(config) -> SearchSpace:
  """The search space that `config.space` describes. Raises InputError."""
  space = make_space(**config.space.to_dict())
  known_operations(space.operation_names)
  return space


def check_sizes(config, dataset: Dataset) -> None:
  """Raises InputError where the space, the batches, the devices and the data do not fit: before anything is written."""
  smallest = min(len(labels) for _, labels in dataset.search_splits(config.data.fraction))
  batch_size = config.search.batch_size
  if batch_size > smallest:
    left = f' that config.data.fraction={config.data.fraction} leaves' if config.data.fraction < 1 else ''
    raise InputError(
      f'config.search.batch_size={batch_size}: allowed is up to {smallest}, half of the training images{left}'
    )
  check_image_size(dataset.image_shape[:2])
  check_augmentation(config.data, dataset.image_shape[:2])
  training = len(dataset.train[1])
  if config.retrain.epochs and config.retrain.batch_size > training:
    raise InputError(
      f'config.retrain.batch_size={config.retrain.batch_size}: allowed is up to {training}, the training images'
    )
  check_profile(config.profile, config.search.epochs * (smallest // batch_size))
  mesh_of(config)


def members_of(config) -> list[dict]:
  """What sets the members of the run apart; of a lone search [{'seed': …}]."""
  values = {name: config.population[name] for name in varied()}
  return population.members(config.search.seed, config.population.seeds, values)


def is_population(config) -> bool:
  """Whether the run reports members."""
  return is_asked_for(config.population)


def mesh_of(config) -> jax.sharding.Mesh:
  """The mesh of `config.parallel`. Raises InputError."""
  parallel = config.parallel
  return make_mesh(config.search.batch_size, len(members_of(config)), parallel.population, parallel.data)


def cosine(maximum: float, minimum: float, epoch: int, epochs: int) -> float:
  """Learning rate of an epoch: `maximum` in the first, towards `minimum` after the last."""
  return minimum + (maximum - minimum) * (1 + math.cos(math.pi * epoch / epochs)) / 2


def settings_of(config, member: dict) -> dict:
  """The values that `hyperparameters` takes, of one member."""
  return config.search.to_dict() | {'relaxation': config.relaxation.to_dict()} | member


def hyperparameters(settings, epoch: int) -> Hyperparameters:
  """The scalars of an epoch.

  Args:
    settings: a mapping with the keys of `config.search`, and 'relaxation': those of `config.relaxation`.
    epoch: from 0.
  """
  epochs, relaxation = settings['epochs'], settings['relaxation']
  b1, b2 = settings['alpha_betas']
  used = {REGULARIZERS[name].weight for name in settings['regularizers']}
  schedule = lambda name: SCHEDULES[settings[f'{name}_schedule']](settings[f'{name}_weight'], epoch, epochs)
  weight = lambda name: schedule(name) if f'{name}_weight' in used else 0.0
  moves = settings['alpha_warmup_epochs'] <= epoch < (settings['alpha_epochs'] or epochs)
  line = lambda first, last: first + (last - first) * epoch / epochs
  return Hyperparameters(
    learning_rate=cosine(settings['learning_rate'], settings['learning_rate_min'], epoch, epochs),
    momentum=settings['momentum'],
    weight_decay=settings['weight_decay'],
    clip_norm=settings['clip_norm'],
    alpha_learning_rate=settings['alpha_learning_rate'] if moves else 0.0,
    alpha_b1=b1,
    alpha_b2=b2,
    alpha_weight_decay=settings['alpha_weight_decay'],
    beta_decay_weight=weight('beta_decay'),
    l2_weight=weight('l2'),
    alignment_weight=weight('alignment'),
    flood_level=settings['flood_level'],
    perturbation=line(relaxation['epsilon'], relaxation['epsilon_max']),
    temperature=line(relaxation['temperature'], relaxation['temperature_min']),
    auxiliary_skip=line(1.0, 0.0),
    epoch=float(epoch),
  )


def alpha_reach(config, steps_per_epoch: int) -> float:
  """How far a logit of α can come in a run, about: the sum of its rates over the steps. Of a population the least."""
  epochs = range(config.search.epochs)
  rate = lambda member, epoch: float(hyperparameters(settings_of(config, member), epoch).alpha_learning_rate)
  return steps_per_epoch * min(sum(rate(member, epoch) for epoch in epochs) for member in members_of(config))


def supernet_of(config, num_classes: int) -> Supernet:
  """The supernet that `config.supernet` and `config.relaxation` describe. Raises InputError."""
  dtype = None if config.supernet.dtype == 'float32' else jnp.dtype(config.supernet.dtype)
  sizes = {name: value for name, value in config.supernet.items() if name != 'dtype'}
  parts, sampled = config.relaxation.partial_channels, config.relaxation.sampling == 'gumbel'
  return Supernet(space_of(config), num_classes, **sizes, partial_channels=parts, sampled=sampled, dtype=dtype)


def relaxation_of(config) -> Relaxation:
  """The relaxation that `config.relaxation` describes."""
  how = config.relaxation
  edges = space_of(config).edges if how.edge_normalization else ()
  return Relaxation(how.sampling, how.perturbation, edges, how.auxiliary_skip)


def parts_of(config) -> dict:
  """The arguments of make_search_step besides the supernet; what weighs nothing in any member is left out."""
  members = [settings_of(config, member) for member in members_of(config)]
  used = [REGULARIZERS[name] for name in config.search.regularizers]
  options = {name: value for name, value in config.hypergradient.items() if name != 'method'}
  wanted = {'finite_difference': ('distance',), 'implicit': ('solver', 'terms', 'rate', 'damping')}
  method = config.hypergradient.method
  return {
    'regularizer': [r for r in used if any(member[r.weight] for member in members)],
    'hypergradient': functools.partial(
      HYPERGRADIENTS[method], **{name: options[name] for name in wanted.get(method, ())}
    ),
    'relaxation': relaxation_of(config),
    'flooding': any(member['flood_level'] for member in members),
  }


# ---- programs ----

NEVER_A_STEP = 2**32 - 1  # folded into a seed for what is drawn once


def make_train(step, augmentation, batch_size: int, steps_per_epoch: int, mesh, strategy: str = 'map'):
  """Builds `train(states, orders, hypers, halves, stop) -> states`: bilevel steps of every member to number `stop`.

  `states`, `orders` [M, steps, B] and `hypers` are the members'; orders are the epoch's indices into the first of
  `halves`, the (images, labels) for the weights and for α; α's batch is drawn anew at every step from the second. A
  lone search ends early, at the step after it, when a loss is not finite.

  Args:
    step: of make_search_step.
    augmentation: (key, uint8 images) → float.
    batch_size: B.
    steps_per_epoch: steps.
    mesh: ('population', 'data').
    strategy: of map_members.
  """

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

  step_all = map_members(bilevel_step, strategy)

  def train(states, orders, hypers, halves, stop):
    lone = len(states.step) == 1

    def local(stack, shared):
      states, orders, hypers = stack
      halves, stop = shared

      def proceed(states):
        finite = jnp.isfinite(states.sums['train_loss'][0]) & jnp.isfinite(states.sums['alpha_loss'][0])
        return (states.step[0] < stop) & (finite if lone else True)

      return lax.while_loop(proceed, lambda states: step_all((states, orders, hypers), halves), states)

    return shard_population(local, mesh)((states, orders, hypers), (halves, stop))

  return train


@dataclasses.dataclass
class Programs:
  """What `run` calls: compiled once, data already on the devices.

  Attributes:
    states: of the M members at step 0.
    steps_per_epoch: bilevel steps.
    train: (states, epoch, until) → states at step `until`; a lone state stops at the first non-finite loss.
    tune: (states, epoch, member, β, until) → (states, whether the member's is finite): `train` at
      derivation.learning_rate, its α, which stays, one whose mean is β. (The other members train, too.)
    evaluate: (states, epoch) → (loss in nats, top-1, top-5 accuracy 0 … 1) [M] of the supernets on images of α's half.
    betas: states → {cell type: [M, E, O]} on the host.
    one_shot: (states, member, list of β, number of images[, epoch]) → accuracies [n] of the supernet's weights under
      them, beside the auxiliary skip connections of DARTS- in that epoch.
    diagnose: (states, member, epoch) → {'eigenvalues': …, 'theta': …}, see diagnostics.make_diagnose.
    compile_seconds: spent on it.
  """

  states: SearchState
  steps_per_epoch: int
  train: Callable
  tune: Callable
  evaluate: Callable
  betas: Callable
  one_shot: Callable
  diagnose: Callable
  compile_seconds: float


def build(config, dataset: Dataset, mesh) -> Programs:
  """Puts the data on the devices of `mesh` and compiles the programs of a search."""
  search, space, members = config.search, space_of(config), members_of(config)
  replicate, split = Placement(mesh), Placement(mesh, 'population')
  on_host = dataset.search_splits(config.data.fraction)
  halves = replicate(on_host)
  num_images = len(on_host[0][1])
  steps_per_epoch = num_images // search.batch_size
  evaluated = replicate(tuple(array[: search.evaluation_images or None] for array in on_host[1]))
  augmentation = Augmentation(dataset.mean, dataset.std, config.data.crop_padding, config.data.flip, config.data.cutout)
  prepare = lambda images: normalize(images, dataset.mean, dataset.std)
  supernet, parts = supernet_of(config, dataset.num_classes), parts_of(config)
  relaxation = parts['relaxation']
  strategy = config.parallel.strategy

  def initial_state(seed, image):
    weights_key, alphas_key = jax.random.split(jax.random.key(seed))
    alphas = space.init_alphas(alphas_key)
    edge_logits = relaxation.init_edge_logits(jax.random.fold_in(alphas_key, 1), space)
    betas = relaxation.evaluated((alphas, edge_logits), Hyperparameters())
    return SearchState.create(supernet.init(weights_key, image, betas), alphas, seed, edge_logits)

  def hypers_of(epoch, **changed):
    of_members = [hyperparameters(settings_of(config, member) | changed, epoch) for member in members]
    return split(jax.tree.map(lambda *values: np.array(values, np.float32), *of_members))

  @functools.lru_cache(maxsize=1)
  def epoch_arguments(epoch):
    orders = [epoch_order(member['seed'], epoch, num_images, search.batch_size) for member in members]
    return split(np.stack(orders)), hypers_of(epoch)

  def supernet_logits(arguments, images):
    state, hyper = arguments
    betas = relaxation.evaluated(state.architecture, hyper)
    return supernet.apply(state.variables, images, betas, rngs={'draw': jax.random.key(state.seed)})

  devices = mesh.shape['data']  # that share a batch of evaluation, too
  size = max(1, min(250, len(evaluated[1])) // devices) * devices
  spread = lambda index: lax.with_sharding_constraint(index, PartitionSpec('data'))
  evaluate_one = make_evaluate(supernet_logits, prepare, size, spread)
  evaluate = map_members(lambda member, images: evaluate_one(member, *images), strategy)

  started = time.perf_counter()
  initial_states = map_members(initial_state, 'map')
  seeds = split(np.array([member['seed'] for member in members], np.uint32))
  arguments = seeds, replicate(np.zeros((1, *dataset.image_shape), np.float32))
  shapes = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=split.sharding),
    jax.eval_shape(initial_states, *arguments),
  )
  step = make_search_step(supernet, **parts)
  train = make_train(step, augmentation, search.batch_size, steps_per_epoch, mesh, strategy)
  train, evaluate, initial_states = compile_together(
    jax.jit(train, donate_argnums=0, out_shardings=split.sharding).lower(
      shapes, *epoch_arguments(0), halves, replicate(np.int32(0))
    ),
    jax.jit(shard_population(evaluate, mesh), out_shardings=replicate.sharding).lower(
      (shapes, hypers_of(0)), evaluated
    ),
    jax.jit(initial_states, out_shardings=split.sharding).lower(*arguments),
  )

  betas = jax.jit(
    lambda states: jax.vmap(lambda state: relaxation.mean(state.architecture))(states), out_shardings=replicate.sharding
  )
  member_of = jax.jit(lambda tree, k: jax.tree.map(lambda x: x[k], tree), out_shardings=replicate.sharding)
  one_body = supernet.clone(unroll=False)  # quick to compile
  one_shot_of = make_one_shot(one_body.clone(sampled=False), prepare)
  diagnose_one = make_diagnose(one_body, **parts)

  @functools.cache
  def first_batches():
    batches = [(images[: search.batch_size], labels[: search.batch_size]) for images, labels in halves]
    return jax.jit(lambda batches: [(prepare(images), labels) for images, labels in batches])(batches)

  def one_shot(states, k, betas, count, epoch=None):
    images, labels = (array[:count] for array in halves[1])
    if epoch is not None:
      hyper = jax.tree.map(np.float32, hyperparameters(settings_of(config, members[k]), epoch))
      betas = [relaxation.with_skip(beta, hyper) for beta in betas]
    return one_shot_of(member_of(states, replicate(np.int32(k))).variables, betas, images, labels)

  def diagnose(states, k, epoch):
    state, hyper = member_of((states, epoch_arguments(epoch)[1]), replicate(np.int32(k)))
    return diagnose_one(state, *first_batches(), hyper)

  @functools.partial(jax.jit, out_shardings=split.sharding)
  def given(states, k, betas):
    alphas = jax.tree.map(lambda a, b: a.at[k].set(b), states.alphas, relaxation.logits(betas))
    return states.replace(alphas=alphas)

  @functools.partial(jax.jit, out_shardings=replicate.sharding)
  def is_finite(states, k):
    return jnp.all(
      jnp.stack([jnp.all(jnp.isfinite(leaf[k])) for leaf in jax.tree.leaves((states.params, states.sums))])
    )

  def tune(states, epoch, k, betas, until):
    member, rate = replicate(np.int32(k)), config.derivation.learning_rate
    orders, _ = epoch_arguments(epoch)
    hypers = hypers_of(search.epochs - 1, alpha_learning_rate=0.0, learning_rate=rate, learning_rate_min=rate)
    states = train(given(states, member, replicate(betas)), orders, hypers, halves, replicate(np.int32(until)))
    return states, bool(jax.device_get(is_finite(states, member)))

  return Programs(
    states=initial_states(*arguments),
    steps_per_epoch=steps_per_epoch,
    train=lambda states, epoch, until: train(states, *epoch_arguments(epoch), halves, replicate(np.int32(until))),
    tune=tune,
    evaluate=lambda states, epoch: jax.device_get(evaluate((states, epoch_arguments(epoch)[1]), evaluated)),
    betas=lambda states: jax.device_get(betas(states)),
    one_shot=one_shot,
    diagnose=diagnose,
    compile_seconds=time.perf_counter() - started,
  )

"""One search, from a config to a genotype: epochs of bilevel steps, evaluation, derivation, logs, checkpoints."""

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
from jax.sharding import NamedSharding, PartitionSpec

from beta_darts_jax.bilevel import Hyperparameters, SearchState, make_search_step
from beta_darts_jax.data import Augmentation, Dataset, distinct_indices, epoch_order, normalize
from beta_darts_jax.diagnostics import one_shot_accuracies, ranking_correlation
from beta_darts_jax.environment import environment, make_mesh
from beta_darts_jax.errors import InputError
from beta_darts_jax.evaluation import make_evaluate
from beta_darts_jax.loop import run_epochs
from beta_darts_jax.nas_bench_201 import DATASETS, NasBench201
from beta_darts_jax.operations import known_operations
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
  make_mesh(config.devices, batch_size)


def cosine(maximum: float, minimum: float, epoch: int, epochs: int) -> float:
  """Learning rate of an epoch: `maximum` in the first, towards `minimum` after the last."""
  return minimum + (maximum - minimum) * (1 + math.cos(math.pi * epoch / epochs)) / 2


def hyperparameters(search, epoch: int) -> Hyperparameters:
  """The scalars of an epoch, from `config.search`."""
  b1, b2 = search.alpha_betas
  return Hyperparameters(
    learning_rate=cosine(search.learning_rate, search.learning_rate_min, epoch, search.epochs),
    momentum=search.momentum,
    weight_decay=search.weight_decay,
    clip_norm=search.clip_norm,
    alpha_learning_rate=search.alpha_learning_rate,
    alpha_b1=b1,
    alpha_b2=b2,
    alpha_weight_decay=search.alpha_weight_decay,
    beta_decay_weight=linear_ramp(search.beta_decay_weight, epoch, search.epochs),
  )


def make_train(supernet, augmentation, batch_size: int, steps_per_epoch: int, mesh):
  """Builds `train(state, halves, order, stop, hyper) -> state`: bilevel steps up to number `stop`.

  It ends early, at the step after it, when a loss is not finite. `halves` are
  the (images, labels) for the weights and for α, `order` [steps, B] the epoch's
  indices into the first; α's batch is drawn anew at every step from the second.
  """
  step = make_search_step(supernet)
  over_devices = NamedSharding(mesh, PartitionSpec('data'))

  def batch(half, index, key):
    images, labels = half
    index = lax.with_sharding_constraint(index, over_devices)
    return augmentation(key, images[index]), labels[index]

  def train(state, halves, order, stop, hyper):
    weights_half, alpha_half = halves

    def proceed(state):
      finite = jnp.isfinite(state.sums['train_loss']) & jnp.isfinite(state.sums['alpha_loss'])
      return (state.step < stop) & finite

    def bilevel_step(state):
      key = jax.random.fold_in(jax.random.key(state.seed), state.step)
      draw_key, train_key, valid_key = jax.random.split(key, 3)
      train_index = order[state.step % steps_per_epoch]
      valid_index = distinct_indices(draw_key, len(alpha_half[1]), batch_size)
      train_batch = batch(weights_half, train_index, train_key)
      valid_batch = batch(alpha_half, valid_index, valid_key)
      return step(state, train_batch, valid_batch, hyper)[0]

    return lax.while_loop(proceed, bilevel_step, state)

  return train


@dataclasses.dataclass
class Programs:
  """What `run` calls: compiled once, data already on the devices.

  Attributes:
    state: step 0, replicated.
    steps_per_epoch: bilevel steps.
    train: (state, epoch, until) → state at step `until`, or at the first step with a non-finite loss.
    evaluate: state → (loss in nats, top-1, top-5 accuracy 0 … 1) of the supernet on images of α's half.
    one_shot: (state, genotypes) → accuracies [n] of cells with the supernet's weights.
    compile_seconds: spent on it.
  """

  state: SearchState
  steps_per_epoch: int
  train: Callable
  evaluate: Callable
  one_shot: Callable
  compile_seconds: float


def build(config, dataset: Dataset, mesh) -> Programs:
  """Puts the data on the devices of `mesh` and compiles the programs of a search."""
  search, space = config.search, space_of(config)
  replicated = NamedSharding(mesh, PartitionSpec())
  put = functools.partial(jax.device_put, device=replicated)
  halves = put(dataset.halves(config.data.fraction))
  num_images = len(halves[0][1])
  steps_per_epoch = num_images // search.batch_size
  evaluated = tuple(array[: search.evaluation_images or None] for array in halves[1])
  augmentation = Augmentation(dataset.mean, dataset.std, config.data.crop_padding, config.data.flip, config.data.cutout)
  prepare = lambda images: normalize(images, dataset.mean, dataset.std)
  dtype = None if config.supernet.dtype == 'float32' else jnp.dtype(config.supernet.dtype)
  sizes = {name: value for name, value in config.supernet.items() if name != 'dtype'}
  supernet = Supernet(space, dataset.num_classes, **sizes, dtype=dtype)

  def initial_state(seed):
    weights_key, alphas_key = jax.random.split(jax.random.key(seed))
    alphas = space.init_alphas(alphas_key)
    images = jnp.zeros((1, *dataset.image_shape))
    return SearchState.create(supernet.init(weights_key, images, softmax_betas(alphas)), alphas, seed)

  @functools.lru_cache(maxsize=1)
  def epoch_arguments(epoch):
    order = epoch_order(search.seed, epoch, num_images, search.batch_size)
    return put((order, jax.tree.map(np.float32, hyperparameters(search, epoch))))

  def supernet_logits(arguments, images):
    variables, betas = arguments
    return supernet.apply(variables, images, betas, rngs={'draw': jax.random.key(search.seed)})

  def variables_of(state):
    return {'params': state.params, 'batch_stats': state.batch_stats}

  started = time.perf_counter()
  seed = np.uint32(search.seed)
  state = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated), jax.eval_shape(initial_state, seed)
  )
  train = jax.jit(
    make_train(supernet, augmentation, search.batch_size, steps_per_epoch, mesh),
    donate_argnums=0,
    out_shardings=replicated,
  )
  indices, hyper = epoch_arguments(0)
  train = train.lower(state, halves, indices, put(np.int32(0)), hyper)
  evaluate = make_evaluate(supernet_logits, prepare, min(250, len(evaluated[1])))
  evaluate = evaluate.lower((variables_of(state), jax.eval_shape(softmax_betas, state.alphas)), *evaluated)
  initial_state = jax.jit(initial_state, out_shardings=replicated).lower(seed)
  with ThreadPoolExecutor() as pool:  # XLA compiles without Python's lock
    train, evaluate, initial_state = pool.map(lambda lowered: lowered.compile(), (train, evaluate, initial_state))
  state = initial_state(seed)

  def train_until(state, epoch, until):
    indices, hyper = epoch_arguments(epoch)
    return train(state, halves, indices, put(np.int32(until)), hyper)

  def one_shot(state, genotypes):
    images, labels = (array[: config.benchmark.kendall_images] for array in halves[1])
    return one_shot_accuracies(supernet, variables_of(state), genotypes, images, labels, prepare)

  return Programs(
    state=state,
    steps_per_epoch=steps_per_epoch,
    train=train_until,
    evaluate=lambda state: evaluate((variables_of(state), softmax_betas(state.alphas)), *evaluated),
    one_shot=one_shot,
    compile_seconds=time.perf_counter() - started,
  )


@dataclasses.dataclass
class Outcome:
  """A search that came to its end: its programs, its last state, the rows of metrics.jsonl."""

  programs: Programs
  state: SearchState
  rows: list[dict]


def run(config, dataset: Dataset, table: NasBench201 | None, workdir: Workdir, stop: threading.Event) -> Outcome | None:
  """Searches, or goes on where an interrupted run of the same config stopped.

  Args:
    config: checked, as from `config.check`.
    dataset: what to search on.
    table: the benchmark of the space, used when it knows the data set; or None.
    workdir: opened for this config.
    stop: when set, the state is saved after the steps under way and None is returned.

  Returns:
    What `summarize` takes; None when stopped.

  Raises:
    NonFiniteLoss: and the last good checkpoint stays.
  """
  search, space = config.search, space_of(config)
  table = table if dataset.name in DATASETS else None
  mesh = make_mesh(config.devices, search.batch_size)
  if changes := workdir.changes(environment(mesh)):
    print(f'this run began elsewhere, so its last bits may come out differently: {"; ".join(changes)}', flush=True)
  programs = build(config, dataset, mesh)

  def row_of(state, epoch):
    valid_loss, valid_accuracy, _ = map(float, programs.evaluate(state))
    betas, hyper = _betas(state), hyperparameters(search, epoch)
    genotype = space.derive(betas)
    row = {
      'valid_loss': valid_loss,
      'valid_accuracy': valid_accuracy,
      'beta_decay_weight': hyper.beta_decay_weight,
      'learning_rate': hyper.learning_rate,
      'genotype': str(genotype),
      'betas': {cell_type: beta.tolist() for cell_type, beta in betas.items()},
    }
    return row | ({'benchmark': table.summary(genotype)} if table else {})

  done = run_epochs(
    programs.state,
    programs.train,
    row_of,
    workdir,
    stop,
    epochs=search.epochs,
    steps_per_epoch=programs.steps_per_epoch,
    steps_per_dispatch=search.steps_per_dispatch,
    images_per_step=2 * search.batch_size,
    checkpoint_every=config.checkpoint.every_steps,
    tensorboard=config.tensorboard,
    shown=lambda state: {'genotype': space.derive(_betas(state))},
  )
  return done and Outcome(programs, *done)


def summarize(config, dataset: Dataset, table: NasBench201 | None, workdir: Workdir, outcome: Outcome) -> dict:
  """Writes genotype.json; returns what result.json holds: genotype, accuracies, benchmark, seconds, environment."""
  last = outcome.rows[-1]
  write_json(workdir.path / 'genotype.json', {'space': config.space.to_dict(), 'genotype': last['genotype']})
  result = {'genotype': last['genotype'], 'dataset': dataset.name}
  result |= {name: last[name] for name in ('train_accuracy', 'valid_accuracy')}
  if 'benchmark' in last:
    result['benchmark'] = last['benchmark']
    result['baselines'] = table.baselines(dataset.name)
    if config.benchmark.kendall_cells:
      accuracies = functools.partial(outcome.programs.one_shot, outcome.state)
      result['kendall_tau'] = ranking_correlation(table, dataset.name, accuracies, config.benchmark.kendall_cells)
  # train: of all processes that worked on the run; what a killed one did since its last epoch is not counted
  result['seconds'] = {
    'compile': round(outcome.programs.compile_seconds, 2),
    'train': round(sum(row['seconds'] for row in outcome.rows), 2),
  }
  return result | {'environment': environment(outcome.state.step.sharding.mesh)}


def _betas(state):
  return jax.device_get(softmax_betas(state.alphas))

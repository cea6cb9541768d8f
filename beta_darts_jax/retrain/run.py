"""Trains one genotype from scratch and evaluates it: from a config to a finished run."""

import contextlib
import dataclasses
import functools
import math
import pathlib
import threading
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from beta_darts_jax.config.check import check_profile, step_range
from beta_darts_jax.data.dataset import Augmentation, Dataset, check_augmentation, epoch_order, normalize
from beta_darts_jax.data.streaming import StreamedDataset, test_batches, train_batches
from beta_darts_jax.errors import InputError
from beta_darts_jax.method.evaluation import make_evaluate
from beta_darts_jax.method.losses import top_1_and_top_5
from beta_darts_jax.networks.discrete import NasBench201Network, Network, multiply_adds
from beta_darts_jax.networks.operations import known_operations
from beta_darts_jax.networks.skeletons import check_image_size
from beta_darts_jax.retrain.step import (
  TrainState,
  create_state,
  drop_path_rate,
  evaluation_logits,
  learning_rates,
  make_train_step,
  variables_of,
)
from beta_darts_jax.runtime.checkpoint import Checkpoints
from beta_darts_jax.runtime.devices import Placement, compile_together
from beta_darts_jax.runtime.loop import run_epochs
from beta_darts_jax.runtime.workdir import Workdir, read_result
from beta_darts_jax.spaces.genotype import Genotype
from beta_darts_jax.spaces.published import short_name


def check_network(genotype: Genotype, stem: str, auxiliary_weight: float) -> None:
  """Raises InputError if the genotype does not belong to the stem, or has an operation that is not known."""
  known_operations(name for cell in genotype.cells for name in cell.operations)
  if len(genotype.cells) == 1:
    if stem != 'nas_bench_201' or auxiliary_weight:
      raise InputError(
        f"{short_name(genotype)} is one cell: allowed is config.network.stem='nas_bench_201' with auxiliary_weight 0; "
        'see configs/retrain_nas_bench_201.py'
      )
  elif stem not in ('cifar', 'imagenet'):
    raise InputError(
      f'{short_name(genotype)} is of the DARTS family: allowed for config.network.stem are cifar, imagenet; '
      'see configs/retrain_cifar10.py'
    )


def make_network(genotype: Genotype, num_classes: int, settings, image_size: tuple[int, int]):
  """The network of a genotype.

  Args:
    genotype: its cells decide between Network and NasBench201Network.
    num_classes: size of the logits.
    settings: mapping with channels, layers, cells_per_stage, stem, auxiliary_weight, auxiliary_skip and dtype.
    image_size: height and width in pixels.

  Raises:
    InputError: the images do not fit, or the genotype does not belong to the stem.
  """
  stem, auxiliary = settings['stem'], settings['auxiliary_weight'] > 0
  check_network(genotype, stem, settings['auxiliary_weight'])
  dtype = None if settings['dtype'] == 'float32' else jnp.dtype(settings['dtype'])
  shared = {'channels': settings['channels'], 'auxiliary_skip': settings['auxiliary_skip'], 'dtype': dtype}
  if len(genotype.cells) == 1:
    check_image_size(image_size)
    return NasBench201Network(genotype, num_classes, cells_per_stage=settings['cells_per_stage'], **shared)
  check_image_size(image_size, stem, auxiliary)
  return Network(genotype, num_classes, layers=settings['layers'], stem=stem, auxiliary=auxiliary, **shared)


@dataclasses.dataclass
class Programs:
  """What training calls, data already in its place.

  Attributes:
    state: step 0.
    steps_per_epoch: steps.
    train: (state, epoch, until) → state at step `until`, or at the first step with a non-finite loss.
    evaluate: state → (loss in nats, top-1, top-5 accuracy 0 … 1) on the test images.
    compile_seconds: spent on tracing and compiling the two.
  """

  state: TrainState
  steps_per_epoch: int
  train: Callable
  evaluate: Callable
  compile_seconds: float


def _compiled(*calls):
  """(the programs of [(jitted, *arguments), …], seconds)."""
  started = time.perf_counter()
  programs = compile_together(*(function.lower(*arguments) for function, *arguments in calls))
  return programs, time.perf_counter() - started


def resident_programs(network, dataset: Dataset, augmentation: Augmentation, recipe, auxiliary_weight, put) -> Programs:
  """Programs with the whole data set on the devices.

  Args:
    network: a module.
    dataset: all its training images train.
    augmentation: of training images.
    recipe: mapping as for make_train_step, with seed, epochs, batch_size, learning_rate, schedule, warmup_epochs.
    auxiliary_weight: of the auxiliary head's loss.
    put: places a tree on the devices, in `put.sharding`; `put.batch(x)`, inside a program, shards x by its first axis.
  """
  images, labels = put(dataset.train)
  batch_size, seed = recipe['batch_size'], recipe['seed']
  steps = len(labels) // batch_size
  step = make_train_step(network, recipe, auxiliary_weight)

  @functools.partial(jax.jit, donate_argnums=0, out_shardings=put.sharding)
  def train(state, images, labels, order, rates, drop_path, stop):
    def proceed(state):
      return (state.step < stop) & jnp.isfinite(state.sums['train_loss'])

    def one(state):
      key = jax.random.fold_in(jax.random.key(state.seed), state.step)
      i = state.step % steps
      index = put.batch(order[i])
      return step(state, augmentation(key, images[index]), labels[index], rates[i], drop_path)

    return lax.while_loop(proceed, one, state)

  @functools.lru_cache(maxsize=1)
  def epoch_arguments(epoch):
    order = epoch_order(seed, epoch, len(labels), batch_size)
    return put((order, learning_rates(recipe, epoch, steps), drop_path_rate(recipe, epoch)))

  evaluate = make_evaluate(
    functools.partial(evaluation_logits, network),
    lambda x: normalize(x, dataset.mean, dataset.std),
    batch_size,
    put.batch,
  )
  test = put(dataset.test)
  state = put(jax.jit(lambda seed: create_state(network, images.shape[1:], recipe, seed))(np.uint32(seed)))
  (train, evaluate), seconds = _compiled(
    (train, state, images, labels, *epoch_arguments(0), put(np.int32(0))), (evaluate, variables_of(state), *test)
  )
  return Programs(
    state=state,
    steps_per_epoch=steps,
    train=lambda state, epoch, until: train(state, images, labels, *epoch_arguments(epoch), put(np.int32(until))),
    evaluate=lambda state: evaluate(variables_of(state), *test),
    compile_seconds=seconds,
  )


def streamed_programs(network, dataset: StreamedDataset, recipe, auxiliary_weight, put, workers: int) -> Programs:
  """Programs that take their batches from the host; arguments as for resident_programs.

  Batch n is a function of (seed, n): resuming needs nothing but the step. Each process decodes its share.
  """
  batch_size, seed = recipe['batch_size'], recipe['seed']
  steps = len(dataset.train) // batch_size
  share = (jax.process_index(), jax.process_count())
  step = make_train_step(network, recipe, auxiliary_weight)
  prepare = lambda images: normalize(images, dataset.mean, dataset.std)

  @functools.partial(jax.jit, donate_argnums=0, out_shardings=put.sharding)
  def train_step(state, images, labels, rate, drop_path):
    finite = jnp.isfinite(state.sums['train_loss'])  # else the state stays where it is
    return lax.cond(finite, lambda s: step(s, prepare(images), labels, rate, drop_path), lambda s: s, state)

  @jax.jit
  def evaluate_batch(variables, images, labels, counts):
    logits = evaluation_logits(network, variables, prepare(images))
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.stack([jnp.sum(value * counts) for value in (loss, *top_1_and_top_5(logits, labels))])

  stream = {'next': None, 'batches': None}

  def train(state, epoch, until):
    rates, drop_path = learning_rates(recipe, epoch, steps), drop_path_rate(recipe, epoch)
    begin = int(jax.device_get(state.step))
    if stream['next'] != begin:
      stream['batches'] = train_batches(dataset, seed, batch_size, begin, workers, *share)
    for number in range(begin, until):
      images, labels = put.shares(next(stream['batches']))
      state = train_step(state, images, labels, *put((rates[number % steps], drop_path)))
    stream['next'] = until
    return state

  def evaluate(state):
    variables = variables_of(state)
    sums = [evaluate_batch(variables, *put.rows(b)) for b in test_batches(dataset, batch_size)]
    return np.sum(jax.device_get(sums), axis=0) / len(dataset.test)

  state = put(jax.jit(lambda seed: create_state(network, dataset.image_shape, recipe, seed))(np.uint32(seed)))
  empty = lambda size: (np.zeros((size, *dataset.image_shape), np.uint8), np.zeros(size, np.int32))
  (train_step, evaluate_batch), seconds = _compiled(
    (
      train_step,
      state,
      *put.shares(empty(batch_size // share[1])),
      *put((learning_rates(recipe, 0, steps)[0], drop_path_rate(recipe, 0))),
    ),
    (evaluate_batch, variables_of(state), *put.rows((*empty(batch_size), np.zeros(batch_size, bool)))),
  )
  return Programs(state, steps, train, evaluate, seconds)


def check_sizes(config, dataset) -> None:
  """Raises InputError where the batches and the data do not fit: before anything is written."""
  images = _training_images(config, dataset)
  data = config.data
  if isinstance(dataset, StreamedDataset):
    if (data.part, data.fraction, data.crop_padding, data.cutout) != ('all', 1.0, 0, 0):
      raise InputError(
        f'{dataset.name} streams: allowed are config.data.part=all, fraction=1.0, crop_padding=0 and cutout=0'
      )
    if data.resize < dataset.image_size:
      raise InputError(
        f'config.data.resize={data.resize}: allowed is config.data.image_size, {dataset.image_size}, or more'
      )
  check_augmentation(data, dataset.image_shape[:2])
  if config.train.batch_size > images:
    raise InputError(
      f'config.train.batch_size={config.train.batch_size}: allowed is up to {images}, the training images'
    )
  check_profile(config.profile, config.train.epochs * (images // config.train.batch_size))


def _training_images(config, dataset):
  whole = len(dataset.train) if isinstance(dataset, StreamedDataset) else len(dataset.train[1])
  return int(whole * config.data.fraction)


def build(config, network, dataset, mesh) -> Programs:
  """Programs of `config.train` for a data set on the devices, or one that streams."""
  placement, weight = Placement(mesh), config.network.auxiliary_weight
  if isinstance(dataset, StreamedDataset):
    return streamed_programs(network, dataset, config.train, weight, placement, config.data.workers)
  data = config.data
  dataset = dataset.subset(data.fraction)
  augmentation = Augmentation(dataset.mean, dataset.std, data.crop_padding, data.flip, data.cutout)
  return resident_programs(network, dataset, augmentation, config.train, weight, placement)


def run(config, programs: Programs, workdir: Workdir, stop: threading.Event) -> list[dict] | None:
  """Trains to the end, or goes on where an interrupted run of the same config stopped.

  Args:
    config: checked, of the task 'retrain'.
    programs: of its network and data.
    workdir: opened for this config.
    stop: when set, the state is saved after the steps under way and None is returned.

  Returns:
    The rows of metrics.jsonl; None when stopped.

  Raises:
    NonFiniteLoss: and the last good checkpoint stays.
  """
  recipe, steps = config.train, programs.steps_per_epoch

  def rows_of(state, epoch, finite):
    del finite  # a lone state that is not has stopped the run
    test_loss, test_accuracy, test_top5_accuracy = map(float, programs.evaluate(state))
    yield {
      'test_loss': test_loss,
      'test_accuracy': test_accuracy,
      'test_top5_accuracy': test_top5_accuracy,
      'learning_rate': float(learning_rates(recipe, epoch, steps)[-1]),
      'drop_path_rate': float(drop_path_rate(recipe, epoch)),
    }

  done = run_epochs(
    programs.state,
    programs.train,
    rows_of,
    workdir,
    stop,
    epochs=recipe.epochs,
    steps_per_epoch=steps,
    steps_per_dispatch=recipe.steps_per_dispatch,
    images_per_step=recipe.batch_size,
    checkpoint_every=config.checkpoint.every_steps,
    tensorboard=config.tensorboard,
    profile=step_range(config.profile),
  )
  return done and done[1]


def describe_network(network, variables, image_shape) -> dict:
  """Counts: parameters without the auxiliary head, and multiply-adds of one image (the field's "FLOPs").

  `variables` are the network's, or their shapes.
  """
  kept = {name: part for name, part in variables['params']['network'].items() if name != 'auxiliary_head'}
  return {
    'parameters': sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(kept)),
    'multiply_adds': multiply_adds(network, variables, image_shape),
  }


def load_run(path: str | pathlib.Path) -> tuple[Genotype, dict]:
  """The genotype and the trained variables of a finished training, from its folder.

  Returns:
    (genotype, {'params', 'batch_stats'} of numpy arrays); the averaged ones where the run kept an average.

  Raises:
    InputError: `path` is no folder, holds no finished training, or no checkpoint of it is intact.
  """
  if not pathlib.Path(path).is_dir():
    raise InputError(f'{path}: no such folder')
  result = read_result(path)
  if result is None or 'test_accuracy' not in result:
    raise InputError(f'{path} holds {"a search" if result else "nothing finished"}: allowed is a finished training')
  with contextlib.closing(Checkpoints(pathlib.Path(path))) as checkpoints:
    state = checkpoints.restore_arrays()
  if state is None:
    raise InputError(f'{path} has no checkpoint that is intact')
  variables = state.get('average') or {name: state[name] for name in ('params', 'batch_stats')}
  return Genotype.parse(result['genotype']), variables

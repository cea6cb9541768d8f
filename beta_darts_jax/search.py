"""One search, from a config to a genotype: epochs of bilevel steps, evaluation, derivation, logs, checkpoints."""

import math
import os
import platform
import threading
import time
from importlib import metadata

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from beta_darts_jax import metrics as metrics_lib
from beta_darts_jax.bilevel import METRICS, Hyperparameters, SearchState, make_search_step, zero_sums
from beta_darts_jax.checkpoint import Checkpoints
from beta_darts_jax.data import Augmentation, Dataset, distinct_indices, epoch_order, normalize
from beta_darts_jax.diagnostics import one_shot_accuracies, ranking_correlation
from beta_darts_jax.errors import InputError
from beta_darts_jax.evaluation import make_evaluate
from beta_darts_jax.nas_bench_201 import DATASETS, NasBench201
from beta_darts_jax.regularizers import linear_ramp
from beta_darts_jax.spaces import NAS_BENCH_201, softmax_betas
from beta_darts_jax.supernet import Supernet
from beta_darts_jax.workdir import Workdir, write_json


def check_sizes(config, dataset: Dataset) -> None:
  """Raises InputError where the batches, the devices and the data do not fit together: before anything is written."""
  smallest = min(len(labels) for _, labels in dataset.halves(config.data.fraction))
  if config.search.batch_size > smallest:
    raise InputError(
      f'config.search.batch_size={config.search.batch_size}: allowed is up to half of the data, {smallest}'
    )
  training = len(dataset.train[1])
  if config.retrain.epochs and config.retrain.batch_size > training:
    raise InputError(f'config.retrain.batch_size={config.retrain.batch_size}: allowed is up to the data, {training}')
  make_mesh(config.devices, config.search.batch_size)


class NonFiniteLoss(RuntimeError):
  """A loss became NaN or infinite; names the epoch and the step."""


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


def make_mesh(devices: int, batch_size: int) -> jax.sharding.Mesh:
  """The devices that share a batch; 0: as many as divide it. Raises InputError."""
  available = len(jax.devices())
  if devices == 0:
    devices = max(n for n in range(1, available + 1) if batch_size % n == 0)
  if devices > available or batch_size % devices:
    raise InputError(
      f'config.devices={devices}: allowed are divisors of the batch size {batch_size} up to the {available} present'
    )
  return jax.make_mesh((devices,), ('data',), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])


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


def run(config, dataset: Dataset, table: NasBench201 | None, workdir: Workdir, stop: threading.Event) -> dict | None:
  """Searches, or goes on where an interrupted run of the same config stopped.

  Args:
    config: checked, as from `config.check`.
    dataset: what to search on.
    table: the benchmark; used when it knows the data set.
    workdir: opened for this config.
    stop: when set, the state is saved after the steps under way and None is returned.

  Returns:
    The result: genotype, final accuracies, benchmark, seconds, versions, device.

  Raises:
    NonFiniteLoss: and the last good checkpoint stays.
  """
  started = time.perf_counter()
  search, space = config.search, NAS_BENCH_201
  table = table if dataset.name in DATASETS else None

  # -- data: on every device, as uint8
  mesh = make_mesh(config.devices, search.batch_size)
  replicated = NamedSharding(mesh, PartitionSpec())
  halves = dataset.halves(config.data.fraction)
  steps_per_epoch = len(halves[0][1]) // search.batch_size
  num_evaluated = min(search.evaluation_images or len(halves[1][1]), len(halves[1][1]))
  halves = jax.device_put(halves, replicated)
  evaluated = tuple(array[:num_evaluated] for array in halves[1])
  augmentation = Augmentation(dataset.mean, dataset.std, config.data.crop_padding, config.data.flip, config.data.cutout)
  prepare = lambda images: normalize(images, dataset.mean, dataset.std)

  # -- the state at step 0
  dtype = jnp.dtype(config.supernet.dtype)
  supernet = Supernet(
    space, dataset.num_classes, config.supernet.channels, config.supernet.cells_per_stage,
    None if dtype == jnp.float32 else dtype,
  )  # fmt: skip

  def initial_state(seed):
    weights_key, alphas_key = jax.random.split(jax.random.key(seed))
    alphas = space.init_alphas(alphas_key)
    images = jnp.zeros((1, *dataset.train[0].shape[1:]))
    return SearchState.create(supernet.init(weights_key, images, softmax_betas(alphas)), alphas, seed)

  state = jax.jit(initial_state, out_shardings=replicated)(jnp.uint32(search.seed))

  # -- compile once
  compiling = time.perf_counter()
  order = jax.jit(lambda epoch: epoch_order(search.seed, epoch, len(halves[0][1]), search.batch_size),
                  out_shardings=replicated)  # fmt: skip
  device_values = lambda epoch: jax.device_put(jax.tree.map(jnp.float32, hyperparameters(search, epoch)), replicated)
  train = make_train(supernet, augmentation, search.batch_size, steps_per_epoch, mesh)
  put = lambda value: jax.device_put(jnp.int32(value), replicated)
  train = (
    jax.jit(train, donate_argnums=0, out_shardings=replicated)
    .lower(state, halves, order(put(0)), put(0), device_values(0))
    .compile()
  )
  logits = lambda arguments, images: supernet.apply(arguments[0], images, arguments[1])
  evaluate = make_evaluate(logits, prepare, min(250, num_evaluated))
  evaluate = evaluate.lower(_evaluation_arguments(state), *evaluated).compile()
  compile_seconds = time.perf_counter() - compiling

  # -- go on from the newest checkpoint
  checkpoints = Checkpoints(workdir.path)
  restored = checkpoints.restore(state)
  state = state if restored is None else restored
  step = int(state.step)
  if step:
    print(f'going on from step {step} of {search.epochs * steps_per_epoch}', flush=True)
  log = metrics_lib.MetricsFile(workdir.path / 'metrics.jsonl', step // steps_per_epoch)
  writers = [log] + ([metrics_lib.TensorBoard(workdir.path / 'tensorboard')] if config.tensorboard else [])

  with metrics_lib.Progress(search.epochs, steps_per_epoch) as progress:
    for epoch in range(step // steps_per_epoch, search.epochs):
      epoch_started, epoch_first = time.perf_counter(), step
      if step % steps_per_epoch == 0:
        state = state.replace(sums=jax.device_put(zero_sums(), replicated))
      epoch_end = (epoch + 1) * steps_per_epoch
      epoch_values, epoch_indices = device_values(epoch), order(put(epoch))

      while step < epoch_end:
        until = min(step + search.steps_per_dispatch, epoch_end)
        if config.checkpoint.every_steps:
          until = min(until, (step // config.checkpoint.every_steps + 1) * config.checkpoint.every_steps)
        state = train(state, halves, epoch_indices, put(until), epoch_values)
        step = int(state.step)
        done = step - epoch * steps_per_epoch
        means = {name: float(total) / done for name, total in jax.device_get(state.sums).items()}
        if not (math.isfinite(means['train_loss']) and math.isfinite(means['alpha_loss'])):
          checkpoints.close()
          raise NonFiniteLoss(
            f'the loss is not finite at epoch {epoch + 1}, step {step}: train {means["train_loss"]}, '
            f'alpha {means["alpha_loss"]}; the last good checkpoint is in {workdir.path}'
          )
        rate = 2 * search.batch_size * (step - epoch_first) / (time.perf_counter() - epoch_started)
        progress.steps(epoch, step, means | {'images_per_second': rate, 'genotype': space.derive(_host(state.alphas))})
        if stop.is_set():
          checkpoints.save(step, state)
          checkpoints.close()
          return None
        if config.checkpoint.every_steps and step % config.checkpoint.every_steps == 0 and step < epoch_end:
          checkpoints.save(step, state)

      train_seconds = time.perf_counter() - epoch_started
      valid_loss, valid_accuracy = map(float, evaluate(_evaluation_arguments(state), *evaluated))
      betas = _host(softmax_betas(state.alphas))
      genotype = space.derive(betas)
      row = {
        'epoch': epoch,
        **{name: means[name] for name in METRICS},
        'valid_loss': valid_loss,
        'valid_accuracy': valid_accuracy,
        'beta_decay_weight': linear_ramp(search.beta_decay_weight, epoch, search.epochs),
        'learning_rate': cosine(search.learning_rate, search.learning_rate_min, epoch, search.epochs),
        'seconds': round(time.perf_counter() - epoch_started, 3),
        'images_per_second': round(2 * search.batch_size * (step - epoch_first) / train_seconds, 1),
        'genotype': str(genotype),
        'betas': {cell_type: beta.tolist() for cell_type, beta in betas.items()},
      }
      if table:
        row['benchmark'] = table.summary(genotype)
      for writer in writers:
        writer.append(row)
      progress.epoch(row)
      checkpoints.save(step, state)
  checkpoints.close()
  for writer in writers:
    writer.close()
  row = log.rows[-1]
  genotype = space.parse(row['genotype'])
  write_json(workdir.path / 'genotype.json', {'space': space.name, 'genotype': str(genotype)})

  train_seconds = sum(r['seconds'] for r in log.rows)
  result = {
    'genotype': str(genotype),
    'dataset': dataset.name,
    'train_accuracy': row['train_accuracy'],
    'valid_accuracy': row['valid_accuracy'],
  }
  if table:
    result['benchmark'] = table.summary(genotype)
    result['baselines'] = table.baselines(dataset.name)
    if config.benchmark.kendall_cells:
      images, labels = (array[: config.benchmark.kendall_images] for array in halves[1])
      variables = {'params': state.params, 'batch_stats': state.batch_stats}
      accuracies = lambda genotypes: one_shot_accuracies(supernet, variables, genotypes, images, labels, prepare)
      result['kendall_tau'] = ranking_correlation(table, dataset.name, accuracies, config.benchmark.kendall_cells)
  total = time.perf_counter() - started
  this_process = sum(
    r['seconds'] for r in log.rows if r['epoch'] >= (0 if restored is None else int(restored.step) // steps_per_epoch)
  )
  result['seconds'] = {
    'compile': round(compile_seconds, 2),
    'train': round(train_seconds, 2),
    'other': round(max(0.0, total - compile_seconds - this_process), 2),
  }
  result['environment'] = environment(mesh)
  return result


def _host(tree):
  return jax.device_get(tree)


def _evaluation_arguments(state):
  return {'params': state.params, 'batch_stats': state.batch_stats}, softmax_betas(state.alphas)


def environment(mesh) -> dict:
  """What an exact repetition needs to be the same: versions, devices, cores."""
  packages = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
  return {
    'device': mesh.devices.flat[0].device_kind,
    'devices': mesh.size,
    'cores': len(os.sched_getaffinity(0)),
    'machine': platform.machine(),
    'python': platform.python_version(),
    'versions': {name: metadata.version(name) for name in packages},
  }

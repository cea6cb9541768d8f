"""The compiled programs of a training, with the data on the devices or streamed. Both classes have the same methods."""

import functools
import itertools
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh

from beta_darts_jax.data import Augmentation, Dataset
from beta_darts_jax.data.batching import epoch_order
from beta_darts_jax.data.streaming import test_batches, train_batches
from beta_darts_jax.method.evaluation import make_evaluate
from beta_darts_jax.method.losses import top_1_and_top_5
from beta_darts_jax.retrain.recipe import Recipe
from beta_darts_jax.retrain.step import create_state, evaluation_logits, make_train_step
from beta_darts_jax.runtime.devices import (
  compile_together,
  constrain_batch,
  from_local,
  local_rows,
  named_sharding,
  replicate,
  shard,
)
from beta_darts_jax.runtime.processes import wait_for_all


def _compile(mesh, *calls):
  """Compiles [(jitted function, *arguments), …] → (programs, seconds)."""
  started = time.perf_counter()
  programs = compile_together(mesh, *(function.lower(*arguments) for function, *arguments in calls))
  return programs, time.perf_counter() - started


class _Programs:
  """What both kinds of programs share.

  Args:
    network: a module.
    image_shape: (H, W, C).
    recipe: the recipe of the training.
    seed: seed of the weights and of the order of the images.
    mesh: the mesh of devices.
  """

  def __init__(self, network, image_shape, recipe: Recipe, seed: int, mesh: Mesh):
    self._recipe, self._seed, self._mesh = recipe, seed, mesh
    self._initial_state = jax.jit(functools.partial(create_state, network, image_shape, recipe))

  def initial_state(self):
    """Returns the state at step 0, on the devices."""
    return replicate(self._initial_state(np.uint32(self._seed)), self._mesh)


class ResidentPrograms(_Programs):
  """Programs with the whole data set on the devices."""

  def __init__(
    self,
    network,
    dataset: Dataset,
    *,
    augmentation: Augmentation,
    recipe: Recipe,
    seed: int,
    auxiliary_weight: float,
    mesh: Mesh,
  ):
    super().__init__(network, dataset.image_shape, recipe, seed, mesh)
    self._train_data, self._test_data = replicate(dataset.train, mesh), replicate(dataset.test, mesh)
    self.steps_per_epoch = len(dataset.train[1]) // recipe.batch_size
    step = make_train_step(network, recipe, auxiliary_weight)

    @functools.partial(jax.jit, donate_argnums=0, out_shardings=named_sharding(mesh))
    def train(state, images, labels, order, rates, drop_path, stop):
      def proceed(state):
        return (state.step < stop) & jnp.isfinite(state.sums['train_loss'])

      def take_step(state):
        key = jax.random.fold_in(jax.random.key(state.seed), state.step)
        i = state.step % self.steps_per_epoch
        index = constrain_batch(order[i], mesh)
        return step(state, augmentation(key, images[index]), labels[index], rates[i], drop_path)

      return lax.while_loop(proceed, take_step, state)

    evaluate = make_evaluate(
      functools.partial(evaluation_logits, network),
      dataset.normalize,
      recipe.batch_size,
      constrain=lambda index: constrain_batch(index, mesh),
    )
    self._epoch_arguments = functools.lru_cache(maxsize=1)(self._place_epoch_arguments)
    state = self.initial_state()
    (self._train, self._evaluate), self.compile_seconds = _compile(
      mesh,
      (train, state, *self._train_data, *self._epoch_arguments(0), self._until(0)),
      (evaluate, state.variables, *self._test_data),
    )

  def _place_epoch_arguments(self, epoch):
    recipe = self._recipe
    order = epoch_order(self._seed, epoch, len(self._train_data[1]), recipe.batch_size)
    return replicate(
      (order, recipe.learning_rates(epoch, self.steps_per_epoch), recipe.drop_path_rate_in(epoch)), self._mesh
    )

  def _until(self, step):
    return replicate(np.int32(step), self._mesh)

  def train(self, state, epoch: int, until: int):
    """Returns the state at step `until`, or at the first step with a non-finite loss. `state` is donated."""
    return self._train(state, *self._train_data, *self._epoch_arguments(epoch), self._until(until))

  def evaluate(self, state):
    """Returns (loss in nats, top-1, top-5 accuracy 0 … 1) on the test images."""
    return self._evaluate(state.variables, *self._test_data)


class StreamedPrograms(_Programs):
  """Programs that take their batches from the host.

  Batch n is a function of (seed, n), so a resumed run needs nothing but the step. Each process decodes its rows of a
  batch.

  Args:
    workers: processes that decode images; 0 decodes in this process.
  """

  def __init__(
    self,
    network,
    dataset: Dataset,
    *,
    recipe: Recipe,
    seed: int,
    auxiliary_weight: float,
    mesh: Mesh,
    workers: int,
  ):
    super().__init__(network, dataset.image_shape, recipe, seed, mesh)
    self._dataset, self._workers = dataset, workers
    self.steps_per_epoch = len(dataset.train[1]) // recipe.batch_size
    self._rows = local_rows(mesh, recipe.batch_size)
    self._next_step: int | None = None
    self._batches: Iterator[tuple[np.ndarray, np.ndarray]] = iter(())
    step = make_train_step(network, recipe, auxiliary_weight)

    @functools.partial(jax.jit, donate_argnums=0, out_shardings=named_sharding(mesh))
    def train_step(state, images, labels, rate, drop_path):
      def take_step(state):
        return step(state, dataset.normalize(images), labels, rate, drop_path)

      # after a loss that is not finite the state stays as it is
      return lax.cond(jnp.isfinite(state.sums['train_loss']), take_step, lambda state: state, state)

    @jax.jit
    def evaluate_batch(variables, images, labels, counts):
      logits = evaluation_logits(network, variables, dataset.normalize(images))
      loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
      return jnp.stack([jnp.sum(value * counts) for value in (loss, *top_1_and_top_5(logits, labels))])

    state = self.initial_state()
    size, shape = recipe.batch_size, dataset.image_shape
    images, labels, counts = np.zeros((size, *shape), np.uint8), np.zeros(size, np.int32), np.zeros(size, bool)
    share = len(self._rows)
    rate, drop_path = recipe.learning_rates(0, self.steps_per_epoch)[0], recipe.drop_path_rate_in(0)
    (self._train_step, self._evaluate_batch), self.compile_seconds = _compile(
      mesh,
      (train_step, state, *from_local((images[:share], labels[:share]), mesh), *replicate((rate, drop_path), mesh)),
      (evaluate_batch, state.variables, *shard((images, labels, counts), mesh, 'data')),
    )

  def train(self, state, epoch: int, until: int):
    """Returns the state at step `until`; after a non-finite loss it stays as it is. `state` is donated."""
    rates = self._recipe.learning_rates(epoch, self.steps_per_epoch)
    drop_path = self._recipe.drop_path_rate_in(epoch)
    first = int(jax.device_get(state.step))
    if self._next_step != first:
      size = self._recipe.batch_size
      batches = train_batches(self._dataset.train, self._seed, size, first, self._workers, self._rows)
      self._batches = itertools.chain([next(batches)], batches)
      wait_for_all('streaming')  # workers start at different speeds
    for number in range(first, until):
      images, labels = from_local(next(self._batches), self._mesh)
      rate = rates[number % self.steps_per_epoch]
      state = self._train_step(state, images, labels, *replicate((rate, drop_path), self._mesh))
    self._next_step = until
    return state

  def evaluate(self, state):
    """Returns (loss in nats, top-1, top-5 accuracy 0 … 1) on the test images."""
    sums = [
      self._evaluate_batch(state.variables, *shard(batch, self._mesh, 'data'))
      for batch in test_batches(self._dataset.test, self._recipe.batch_size)
    ]
    return np.sum(jax.device_get(sums), axis=0) / len(self._dataset.test[1])

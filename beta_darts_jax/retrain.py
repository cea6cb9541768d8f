"""Trains one genotype from scratch and evaluates it."""

import itertools
import math
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from beta_darts_jax.data import Augmentation, Dataset, epoch_order, normalize
from beta_darts_jax.evaluation import make_evaluate
from beta_darts_jax.genotype import Genotype
from beta_darts_jax.metrics import cross_entropy
from beta_darts_jax.network import NasBench201Network


def retrain(
  genotype: Genotype,
  dataset: Dataset,
  augmentation: Augmentation,
  *,
  seed: int,
  epochs: int,
  batch_size: int,
  channels: int,
  cells_per_stage: int,
  learning_rate: float,
  momentum: float,
  weight_decay: float,
) -> dict:
  """Trains on all training images: SGD with Nesterov momentum, coupled decay, cosine per step to 0.

  Returns:
    test_loss (nats), test_accuracy (0 … 1, of the last epoch), parameters (count) and seconds.
  """
  started = time.perf_counter()
  images, labels = map(jnp.asarray, dataset.train)
  steps = len(labels) // batch_size
  network = NasBench201Network(genotype, dataset.num_classes, channels, cells_per_stage)
  schedule = optax.cosine_decay_schedule(learning_rate, epochs * steps)
  optimizer = optax.chain(
    optax.add_decayed_weights(weight_decay), optax.sgd(schedule, momentum=momentum, nesterov=True)
  )

  @jax.jit
  def begin(key):
    variables = network.init(key, jnp.zeros((1, *images.shape[1:])))
    return variables['params'], variables['batch_stats'], optimizer.init(variables['params'])

  @jax.jit
  def train_epoch(carry, epoch, images, labels):
    order = epoch_order(seed, epoch, len(labels), batch_size)

    def step(i, carry):
      params, batch_stats, optimizer_state = carry
      key = jax.random.fold_in(jax.random.key(seed), epoch * steps + i)
      batch = augmentation(key, images[order[i]])

      def loss(params):
        variables = {'params': params, 'batch_stats': batch_stats}
        logits, updates = network.apply(variables, batch, train=True, mutable=['batch_stats'])
        return cross_entropy(logits, labels[order[i]]), updates['batch_stats']

      gradient, batch_stats = jax.grad(loss, has_aux=True)(params)
      updates, optimizer_state = optimizer.update(gradient, optimizer_state, params)
      return optax.apply_updates(params, updates), batch_stats, optimizer_state

    return lax.fori_loop(0, steps, step, carry)

  carry = begin(jax.random.key(seed))
  for epoch in range(epochs):
    carry = train_epoch(carry, epoch, images, labels)
  params, batch_stats, _ = carry
  evaluate = make_evaluate(
    network.apply, lambda x: normalize(x, dataset.mean, dataset.std), min(batch_size, len(dataset.test[1]))
  )
  loss, accuracy = evaluate({'params': params, 'batch_stats': batch_stats}, *map(jnp.asarray, dataset.test))
  return {
    'genotype': str(genotype),
    'test_loss': float(loss),
    'test_accuracy': float(accuracy),
    'parameters': sum(math.prod(np.shape(leaf)) for leaf in jax.tree.leaves(params)),
    'seconds': round(time.perf_counter() - started, 2),
  }


def compare(space, genotype: str, dataset: Dataset, config) -> dict:
  """Retrains a cell, and random cells of its space in the same way.

  Args:
    space: of the cell.
    genotype: its text.
    dataset: to train and test on.
    config: checked; `config.retrain` has the recipe, `config.search.seed` the seed.

  Returns:
    {'found': …, 'random': […]}: what `retrain` returns of each.
  """
  recipe = config.retrain.to_dict()
  rng = np.random.default_rng(config.search.seed)
  cells = [space.random_genotype(rng) for _ in range(recipe.pop('random_cells'))]
  augmentation = Augmentation(dataset.mean, dataset.std, config.data.crop_padding, config.data.flip, config.data.cutout)

  def on_device(device, cell):
    with jax.default_device(device):
      return retrain(cell, dataset, augmentation, seed=config.search.seed, **recipe)

  devices = jax.local_devices()
  with ThreadPoolExecutor(len(devices)) as pool:  # a cell on each device at a time
    results = list(pool.map(on_device, itertools.cycle(devices), (space.parse(genotype), *cells)))
  return {'found': results[0], 'random': results[1:]}

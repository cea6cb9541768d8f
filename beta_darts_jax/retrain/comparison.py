"""After a search: the found cell and random cells of its space, all trained by the same recipe."""

import dataclasses
import itertools
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
from jax.sharding import Mesh

from beta_darts_jax.data import Augmentation, Dataset
from beta_darts_jax.retrain.programs import ResidentPrograms
from beta_darts_jax.retrain.recipe import Recipe
from beta_darts_jax.retrain.result import count_costs
from beta_darts_jax.retrain.setup import NetworkOptions, make_network
from beta_darts_jax.runtime.workdir import Workdir
from beta_darts_jax.spaces.genotype import Genotype
from beta_darts_jax.spaces.space import SearchSpace


@dataclasses.dataclass(frozen=True)
class Comparison:
  """How the found cell and random cells are trained after a search.

  Attributes:
    network, recipe, augmentation: what every training has in common.
    random_cells: their number.
    seed: seed of the random cells and of every training.
  """

  network: NetworkOptions
  recipe: Recipe
  augmentation: Augmentation
  random_cells: int
  seed: int


def compare(comparison: Comparison, space: SearchSpace, genotype: str, dataset: Dataset, workdir: Workdir) -> dict:
  """Trains a cell and random cells of its space, on each local device one cell at a time.

  `workdir` keeps the result of each cell, so that a resumed run does not train it again.

  Returns:
    {'found': …, 'random': […]}, each with genotype, test_loss (nats), test_accuracy (0 … 1, of the last epoch),
    parameters, multiply_adds and seconds. test_loss and test_accuracy are None where the training diverged.
  """
  print(f'training the found cell and {comparison.random_cells} random cells', flush=True)
  rng = np.random.default_rng(comparison.seed)
  cells = [space.parse(genotype), *(space.random_genotype(rng) for _ in range(comparison.random_cells))]
  results, lock = workdir.trained_cells(), threading.Lock()

  def train_unless_done(device, number, cell):
    key = f'{number} {cell}'
    if key in results:
      print(f'already trained {cell}')
      return results[key]
    result = train_cell(comparison, cell, dataset, device)
    with lock:
      results[key] = result
      workdir.keep_trained_cells(results)
    print(f'trained {cell}  {describe_accuracy(result)}  {result["seconds"]:.0f} s', flush=True)
    return result

  devices = jax.local_devices()
  with ThreadPoolExecutor(len(devices)) as pool:
    trained = list(pool.map(train_unless_done, itertools.cycle(devices), itertools.count(), cells))
  return {'found': trained[0], 'random': trained[1:]}


def describe_accuracy(result: dict) -> str:
  """Returns the test accuracy of a trained cell in words."""
  accuracy = result['test_accuracy']
  return 'diverged' if accuracy is None else f'test accuracy {100 * accuracy:.2f} %'


def train_cell(comparison: Comparison, cell: Genotype, dataset: Dataset, device: jax.Device) -> dict:
  """Trains the network of one cell on one device and returns what `compare` keeps of it."""
  started, recipe = time.perf_counter(), comparison.recipe
  mesh = Mesh(np.array([[device]]), ('population', 'data'))
  with jax.default_device(device):
    network = make_network(cell, dataset.num_classes, comparison.network, dataset.image_shape[:2])
    programs = ResidentPrograms(
      network,
      dataset,
      augmentation=comparison.augmentation,
      recipe=recipe,
      seed=comparison.seed,
      auxiliary_weight=0.0,
      mesh=mesh,
    )
    state = programs.initial_state()
    # The sums are not reset between epochs: a loss that is not finite also ends the training in the next epochs.
    for epoch in range(recipe.epochs):
      state = programs.train(state, epoch, (epoch + 1) * programs.steps_per_epoch)
    loss, accuracy, _ = map(float, programs.evaluate(state))
    is_finished = int(state.step) == recipe.epochs * programs.steps_per_epoch
  diverged = not (is_finished and math.isfinite(loss))
  return {
    'genotype': str(cell),
    'test_loss': None if diverged else loss,
    'test_accuracy': None if diverged else accuracy,
    **count_costs(network, state.variables, dataset.image_shape),
    'seconds': round(time.perf_counter() - started, 2),
  }

"""After a search: the found cell and random cells of its space, all trained by the same recipe."""

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


def compare(
  space: SearchSpace,
  genotype: str,
  dataset: Dataset,
  workdir: Workdir,
  *,
  network: NetworkOptions,
  recipe: Recipe,
  augmentation: Augmentation,
  random_cells: int,
  seed: int,
) -> dict:
  """Trains a cell and random cells of its space, on each local device one cell at a time.

  `workdir` keeps the result of each cell, so that a resumed run does not train it again.

  Args:
    space: of the cell.
    genotype: its text.
    dataset: to train and to test on.
    workdir: the folder of the run.
    network, recipe, augmentation: of every training.
    random_cells: their number.
    seed: of the random cells and of every training.

  Returns:
    {'found': …, 'random': […]}, each with genotype, test_loss (nats), test_accuracy (0 … 1, of the last epoch),
    parameters, multiply_adds and seconds. test_loss and test_accuracy are None where the training diverged.
  """
  rng = np.random.default_rng(seed)
  cells = [space.parse(genotype), *(space.random_genotype(rng) for _ in range(random_cells))]
  results, lock = workdir.trained_cells(), threading.Lock()

  def train_unless_done(device, number, cell):
    key = f'{number} {cell}'
    if key in results:
      print(f'already trained {cell}')
      return results[key]
    result = train_cell(
      cell, dataset, network=network, recipe=recipe, augmentation=augmentation, seed=seed, device=device
    )
    with lock:
      results[key] = result
      workdir.keep_trained_cells(results)
    accuracy = result['test_accuracy']
    outcome = 'diverged' if accuracy is None else f'test accuracy {100 * accuracy:.2f} %'
    print(f'trained {cell}  {outcome}  {result["seconds"]:.0f} s', flush=True)
    return result

  devices = jax.local_devices()
  with ThreadPoolExecutor(len(devices)) as pool:
    trained = list(pool.map(train_unless_done, itertools.cycle(devices), itertools.count(), cells))
  return {'found': trained[0], 'random': trained[1:]}


def train_cell(
  cell: Genotype,
  dataset: Dataset,
  *,
  network: NetworkOptions,
  recipe: Recipe,
  augmentation: Augmentation,
  seed: int,
  device: jax.Device,
) -> dict:
  """Trains the network of one cell on one device and returns what `compare` keeps of it."""
  started = time.perf_counter()
  mesh = Mesh(np.array([[device]]), ('population', 'data'))
  with jax.default_device(device):
    module = make_network(cell, dataset.num_classes, network, dataset.image_shape[:2])
    programs = ResidentPrograms(
      module, dataset, augmentation=augmentation, recipe=recipe, seed=seed, auxiliary_weight=0.0, mesh=mesh
    )
    state = programs.initial_state()
    # The sums are not reset between epochs: a loss that is not finite ends the training in the next epoch, too.
    for epoch in range(recipe.epochs):
      state = programs.train(state, epoch, (epoch + 1) * programs.steps_per_epoch)
    loss, accuracy, _ = map(float, programs.evaluate(state))
    finished = int(state.step) == recipe.epochs * programs.steps_per_epoch
  diverged = not (finished and math.isfinite(loss))
  return {
    'genotype': str(cell),
    'test_loss': None if diverged else loss,
    'test_accuracy': None if diverged else accuracy,
    **count_costs(module, state.variables, dataset.image_shape),
    'seconds': round(time.perf_counter() - started, 2),
  }

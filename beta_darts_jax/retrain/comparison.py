"""After a search: the found cell beside random ones of its space, all trained in the same way."""

import itertools
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding

from beta_darts_jax.data.dataset import Augmentation, Dataset
from beta_darts_jax.retrain.run import describe_network, make_network, resident_programs
from beta_darts_jax.retrain.step import variables_of
from beta_darts_jax.runtime.workdir import Workdir


class OneDevice:
  """Arrays on a single device; see parallel.Placement."""

  def __init__(self, device):
    self.sharding = SingleDeviceSharding(device)

  def __call__(self, tree):
    return jax.device_put(tree, self.sharding)

  def batch(self, x):
    return x


def compare(space, genotype: str, dataset: Dataset, config, run: Workdir, stop: threading.Event) -> dict | None:
  """Trains a cell, and random cells of its space in the same way, each in one go.

  `run` keeps what a cell reached: after a stop, those that are done are not trained again.

  Args:
    space: of the cell.
    genotype: its text.
    dataset: to train and test on.
    config: checked, of a search; `config.retrain` has the recipe, `config.search.seed` the seed.
    run: opened for this config.
    stop: when set, training ends after the epochs under way.

  Returns:
    {'found': …, 'random': […]} with genotype, test_loss (nats), test_accuracy (0 … 1, of the last epoch), parameters,
    multiply_adds and seconds of each; test_loss and test_accuracy are None where the training diverged. None when
    stopped.
  """
  recipe = config.retrain.to_dict() | {'seed': config.search.seed, 'warmup_epochs': 0, 'ema_decay': 0.0}
  recipe |= {'label_smoothing': 0.0}
  settings = recipe | {'stem': 'nas_bench_201' if space.skeleton == 'nas_bench_201' else 'cifar', 'dtype': 'float32'}
  settings |= {'auxiliary_weight': 0.0, 'auxiliary_skip': space.auxiliary_skip}
  rng = np.random.default_rng(config.search.seed)
  cells = [space.random_genotype(rng) for _ in range(recipe['random_cells'])]
  augmentation = Augmentation(dataset.mean, dataset.std, config.data.crop_padding, config.data.flip, config.data.cutout)
  image_shape = dataset.image_shape
  done, lock = run.trained_cells(), threading.Lock()

  def trained(device, number, cell):
    name = f'{number} {cell}'
    if name in done:
      print(f'trained {cell}  before')
    elif not stop.is_set() and (result := train(device, cell)):
      with lock:
        done[name] = result
        run.keep_trained_cells(done)
      reached = 'diverged' if (top1 := result['test_accuracy']) is None else f'test accuracy {100 * top1:.2f} %'
      print(f'trained {cell}  {reached}  {result["seconds"]:.0f} s', flush=True)
    return done.get(name)

  def train(device, cell):
    started = time.perf_counter()
    with jax.default_device(device):
      network = make_network(cell, dataset.num_classes, settings, image_shape[:2])
      programs = resident_programs(network, dataset, augmentation, recipe, 0.0, OneDevice(device))
      state = programs.state
      for epoch in range(recipe['epochs']):
        if stop.is_set():
          return None
        state = programs.train(state, epoch, (epoch + 1) * programs.steps_per_epoch)
      loss, top1, _ = map(float, programs.evaluate(state))
      if not math.isfinite(loss) or int(state.step) < recipe['epochs'] * programs.steps_per_epoch:
        loss = top1 = None
    return {
      'genotype': str(cell),
      'test_loss': loss,
      'test_accuracy': top1,
      **describe_network(network, variables_of(state), image_shape),
      'seconds': round(time.perf_counter() - started, 2),
    }

  devices = jax.local_devices()
  with ThreadPoolExecutor(len(devices)) as pool:  # a cell on each device at a time
    results = list(pool.map(trained, itertools.cycle(devices), itertools.count(), (space.parse(genotype), *cells)))
  return None if stop.is_set() else {'found': results[0], 'random': results[1:]}

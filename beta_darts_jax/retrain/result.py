"""The result of a training: what result.json holds, what is printed, and the trained network of a run folder."""

import dataclasses
import math
import os
import pathlib

import jax

from beta_darts_jax.errors import InputError
from beta_darts_jax.networks import multiply_adds
from beta_darts_jax.retrain.setup import RetrainSetup
from beta_darts_jax.runtime.checkpoint import load_arrays
from beta_darts_jax.runtime.environment import environment, peak_memory
from beta_darts_jax.runtime.logs import Row
from beta_darts_jax.runtime.workdir import read_result
from beta_darts_jax.spaces.genotype import Genotype


@dataclasses.dataclass(frozen=True)
class RetrainResult:
  """A finished training.

  Attributes:
    path: the folder of the run.
    values: what its result.json holds.
  """

  path: pathlib.Path
  values: dict

  @property
  def genotype(self) -> Genotype:
    """The trained genotype."""
    return Genotype.parse(self.values['genotype'])

  @property
  def test_accuracy(self) -> float:
    """Top-1 accuracy of the last epoch on the test images, 0 … 1."""
    return self.values['test_accuracy']

  def __str__(self) -> str:
    values = self.values
    top5 = values['test_top5_accuracy']
    top5_text = f', top-5 {100 * top5:.2f} %' if top5 < 1 else ''  # it is 1 with five classes or fewer
    return '\n'.join(
      [
        f'cell      {values["genotype"]}',
        f'accuracy  {values["dataset"]} test {100 * self.test_accuracy:.2f} %{top5_text} (last epoch)',
        f'network   {values["parameters"]:,} parameters, {values["multiply_adds"]:,} multiply-adds per image',
        describe_end(self.path, values),
      ]
    )


def describe_end(path: pathlib.Path, values: dict) -> str:
  """Returns the lines about the seconds and the folder of a finished run."""
  seconds = values['seconds']
  phases = ', '.join(f'{name} {value:.0f}' for name, value in seconds.items())
  return f'seconds   {sum(seconds.values()):.0f} ({phases})\nfolder    {path}'


def summarize(setup: RetrainSetup, dataset, rows: list[Row], variables, seconds: dict[str, float]) -> dict:
  """Returns what result.json holds.

  Args:
    setup: the setup of the run.
    dataset: its data.
    rows: the rows of all epochs.
    variables: the variables of the network, or their shapes.
    seconds: by phase.
  """
  last = rows[-1]
  return {
    'genotype': str(setup.genotype),
    'dataset': dataset.name,
    **{name: last[name] for name in ('train_accuracy', 'test_accuracy', 'test_top5_accuracy')},  # type: ignore[literal-required]
    **count_costs(setup.network, variables, dataset.image_shape),
    'seconds': {name: round(value, 2) for name, value in seconds.items()},
    'memory': peak_memory(),
    'environment': environment(setup.mesh),
  }


def count_costs(network, variables, image_shape: tuple[int, int, int]) -> dict[str, int]:
  """Returns {'parameters', 'multiply_adds'}: parameters without the auxiliary head, and multiply-adds of one image.

  Multiply-adds are what the field calls FLOPs. `variables` are those of the network, or their shapes.
  """
  parts = {name: part for name, part in variables['params']['network'].items() if name != 'auxiliary_head'}
  return {
    'parameters': sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(parts)),
    'multiply_adds': multiply_adds(network, variables, image_shape),
  }


def load_run(path: str | pathlib.Path) -> tuple[Genotype, dict]:
  """Loads the genotype and the trained variables of a finished training from its folder.

  Returns:
    (genotype, {'params', 'batch_stats'} of numpy arrays). The variables are the moving average if the run kept one.

  Raises:
    InputError: `path` is no folder, holds no finished training, or its last checkpoint is missing or damaged.
  """
  path = pathlib.Path(os.path.expanduser(path))
  if not path.is_dir():
    raise InputError(f'{path}: no such folder')
  result = read_result(path)
  if result is None or 'test_accuracy' not in result:
    held = 'a search' if result else 'no finished run'
    raise InputError(f'{path} holds {held}: expected a finished training. Train the cell by beta-darts retrain first.')
  state = load_arrays(path)
  variables = state.get('average') or {name: state[name] for name in ('params', 'batch_stats')}
  return Genotype.parse(result['genotype']), variables

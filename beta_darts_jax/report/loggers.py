"""The loggers of config.loggers: TensorBoard, Weights & Biases, MLflow, and those that a config file registers.

A number of a row is a scalar, an array such as β is a histogram, and a cell is an image when it changes.
"""

import dataclasses
import importlib.util
import io
import json
import os
import pathlib
import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict

from beta_darts_jax.errors import InputError
from beta_darts_jax.runtime.files import read_json, write_json
from beta_darts_jax.runtime.logs import Logger, Row
from beta_darts_jax.spaces.genotype import Genotype

PROJECT = 'beta_darts_jax'  # of W&B and experiment of MLflow, if the environment names no other


class Shown(NamedTuple):
  """What a logger shows of a row; the names of a population start with member_K/."""

  numbers: dict[str, float]
  arrays: dict[str, np.ndarray]  # float [N]
  images: dict[str, np.ndarray]  # uint8 [H, W, 3]


@dataclasses.dataclass
class Reader:
  """Splits rows into what a logger shows. `cells` holds the last cell of each member."""

  cells: dict[str, str] = dataclasses.field(default_factory=dict)

  def read(self, row: Row) -> Shown:
    prefix = f'member_{row["member"]}/' if 'member' in row else ''
    values = {prefix + name: v for name, v in _leaves(row).items() if name not in ('epoch', 'member', 'seed')}
    arrays = {name: np.array(v, float).ravel() for name, v in values.items() if isinstance(v, list)}
    finite = {name: array[np.isfinite(array)] for name, array in arrays.items()}
    text, images = row.get('genotype'), {}
    if text and text != self.cells.get(prefix):
      self.cells[prefix] = text
      images = {prefix + name: image for name, image in draw_cells(text).items()}
    return Shown(_numbers(values), {name: array for name, array in finite.items() if array.size}, images)


def _leaves(tree: Mapping[str, Any]) -> dict[str, Any]:
  return flatten_dict(dict(tree), sep='/')


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
  return {n: v for n, v in values.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}


def draw_cells(text: str) -> dict[str, np.ndarray]:
  """Draws the cells of a genotype: {'cell'}, {'normal_cell', 'reduction_cell'} or {'chain'}, each uint8 [H, W, 3]."""
  from PIL import Image

  from beta_darts_jax.report.chain_figure import draw_genotype  # imports matplotlib

  images = {}
  for name, figure in draw_genotype(Genotype.parse(text)).items():
    file = io.BytesIO()
    figure.savefig(file, format='png', dpi=120)
    images[name.replace(' ', '_')] = np.asarray(Image.open(file).convert('RGB'))
  return images


class TensorBoard:
  """Writes event files into the folder `tensorboard` of the run, by tensorboardX, which does not need TensorFlow."""

  packages = ('tensorboardX', 'matplotlib')

  def config(self, values: dict) -> None:
    self._config, self._reader = values, Reader()
    self._writer: Any = None

  def _open(self, **options):
    from tensorboardX import SummaryWriter

    return SummaryWriter(str(pathlib.Path(self._config['workdir']) / 'tensorboard'), **options)

  def row(self, row: Row) -> None:
    epoch, shown = row['epoch'], self._reader.read(row)
    if self._writer is None:
      # a resumed run writes the epochs after its checkpoint again
      self._writer = self._open(purge_step=epoch, filename_suffix=f'.{epoch}')
      if epoch == 0:
        self._write_text('config', self._config)
    for name, number in shown.numbers.items():
      self._writer.add_scalar(name, number, epoch)
    for name, array in shown.arrays.items():
      self._writer.add_histogram(name, array, epoch)
    for name, image in shown.images.items():
      self._writer.add_image(name, image, epoch, dataformats='HWC')
    self._writer.flush()

  def _write_text(self, name: str, values: dict) -> None:
    self._writer.add_text(name, f'```\n{json.dumps(values, indent=1)}\n```')

  def result(self, values: dict) -> None:
    self._writer = self._writer or self._open()
    self._write_text('result', values)
    config = {
      name: value if isinstance(value, (bool, int, float)) else str(value)
      for name, value in _leaves(self._config).items()
    }
    numbers = {f'result/{name}': number for name, number in _numbers(_leaves(values)).items()}
    self._writer.add_hparams(config, numbers, name='hparams')

  def close(self) -> None:
    if self._writer:
      self._writer.close()


class WeightsAndBiases:
  """Logs to W&B, or into the folder `wandb` of the run with WANDB_MODE=offline."""

  packages = ('wandb', 'matplotlib')

  def config(self, values: dict) -> None:
    import wandb

    folder, self._reader = pathlib.Path(values['workdir']), Reader()
    identity = _kept(folder).get('wandb') or uuid.uuid4().hex
    project = os.environ.get('WANDB_PROJECT', PROJECT)
    try:
      self._run = wandb.init(
        project=project, name=folder.name, id=identity, resume='allow', dir=str(folder), config=values
      )
    except wandb.Error as error:  # no key, or no network
      raise InputError(f'wandb: {error}') from None
    _keep(folder, 'wandb', identity)

  def row(self, row: Row) -> None:
    import wandb

    numbers, arrays, images = self._reader.read(row)
    histograms = {name: wandb.Histogram(array.tolist()) for name, array in arrays.items()}
    pictures = {name: wandb.Image(image) for name, image in images.items()}
    self._run.log(numbers | histograms | pictures, step=row['epoch'])

  def result(self, values: dict) -> None:
    self._run.summary.update({'result': values})

  def close(self) -> None:
    self._run.finish()


class MLflow:
  """Logs to the server or database of MLFLOW_TRACKING_URI. MLflow has no histograms, so it gets each row as JSON."""

  packages = ('mlflow', 'matplotlib')

  def config(self, values: dict) -> None:
    import mlflow

    folder, self._reader, self._status = pathlib.Path(values['workdir']), Reader(), 'KILLED'
    try:
      self._client = mlflow.MlflowClient()
      self._id = _kept(folder).get('mlflow') or self._create(folder, values)
      self._client.update_run(self._id, status='RUNNING')
    except mlflow.MlflowException as error:  # no server, or a run that was deleted there
      raise InputError(f'mlflow: {error}') from None
    _keep(folder, 'mlflow', self._id)

  def _create(self, folder: pathlib.Path, values: dict) -> str:
    from mlflow.entities import Param

    name = os.environ.get('MLFLOW_EXPERIMENT_NAME', PROJECT)
    experiment = self._client.get_experiment_by_name(name)
    experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(name)
    identity = self._client.create_run(experiment_id, run_name=folder.name).info.run_id
    parameters = [Param(name, str(value)) for name, value in _leaves(values).items()]
    for first in range(0, len(parameters), 100):  # a request has at most 100
      self._client.log_batch(identity, params=parameters[first : first + 100])
    self._client.log_dict(identity, values, 'config.json')
    return identity

  def row(self, row: Row) -> None:
    epoch, shown = row['epoch'], self._reader.read(row)
    self._log_numbers(shown.numbers, epoch)
    for name, image in shown.images.items():
      self._client.log_image(self._id, image, key=name, step=epoch)
    member = f'member_{row["member"]}/' if 'member' in row else ''
    self._client.log_dict(self._id, dict(row), f'rows/{member}{epoch:04d}.json')

  def _log_numbers(self, numbers: Mapping[str, float], step: int) -> None:
    from mlflow.entities import Metric

    now = int(1000 * time.time())  # milliseconds
    self._client.log_batch(self._id, metrics=[Metric(name, value, now, step) for name, value in numbers.items()])

  def result(self, values: dict) -> None:
    self._client.log_dict(self._id, values, 'result.json')
    self._log_numbers({f'result/{name}': number for name, number in _numbers(_leaves(values)).items()}, 0)
    self._status = 'FINISHED'

  def close(self) -> None:
    self._client.set_terminated(self._id, self._status)


LOGGERS: dict[str, type[Logger] | Logger] = {'tensorboard': TensorBoard, 'wandb': WeightsAndBiases, 'mlflow': MLflow}
BUILT_IN_LOGGERS = frozenset(LOGGERS)  # users may add loggers of their own


def find_loggers(names: Iterable[str]) -> list[Logger]:
  """Returns the loggers with these names in LOGGERS. A class there makes a new logger for each run.

  Raises:
    InputError: an unknown name, a package that is not installed, or an object that is no logger.
  """
  return [_find(name) for name in dict.fromkeys(names)]


def _find(name: str) -> Logger:
  if name not in LOGGERS:
    raise InputError(f'logger {name!r}: expected one of {", ".join(LOGGERS)}')
  found = LOGGERS[name]
  # a folder with the name of a package, such as wandb/, has a specification without an origin
  specifications = {package: importlib.util.find_spec(package) for package in getattr(found, 'packages', ())}
  if missing := [package for package, spec in specifications.items() if not (spec and spec.origin)]:
    raise InputError(f"logger {name} needs {' and '.join(missing)}: pip install 'beta-darts-jax[{name}]'")
  if not all(callable(getattr(found, method, None)) for method in ('config', 'row', 'result')):
    raise InputError(f'logger {name!r}: expected an object with the methods config, row and result')
  return found() if isinstance(found, type) else found


# ---- a resumed run continues the run of the service ----


def _kept(folder: pathlib.Path) -> dict[str, str]:
  file = folder / 'loggers.json'
  return read_json(file, 'remove it to log into a new run') if file.is_file() else {}


def _keep(folder: pathlib.Path, name: str, identity: str) -> None:
  write_json(folder / 'loggers.json', _kept(folder) | {name: identity})

"""A trained network that predicts from images. It needs the folder of its run, but not the data."""

import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from beta_darts_jax.data.augmentation import normalize
from beta_darts_jax.errors import InputError
from beta_darts_jax.retrain.result import load_run
from beta_darts_jax.retrain.setup import STREAMED_SOURCE, AnyNetwork, NetworkOptions, make_network
from beta_darts_jax.retrain.step import evaluation_logits
from beta_darts_jax.runtime.files import read_json
from beta_darts_jax.spaces.genotype import Genotype


class TrainedNetwork:
  """A trained network: `network(images)` gives logits.

  Attributes:
    genotype: the cells.
    classes: the name of each class, in the order of the logits.
    image_shape: (H, W, C) of the images.
    mean, std: per channel, of training images scaled to 0 … 1; a call normalizes the images by them.
    resize: shorter side of a picture in pixels, before its central H×W pixels are taken; 0: the whole picture is
      resized to H×W.
    variables: {'params', 'batch_stats'} of numpy arrays.
    predict: compiled function (variables, uint8 images) → logits.
    module: the module of a retrained network; None for the supernet of a search.
  """

  def __init__(
    self,
    genotype: Genotype,
    data: Mapping[str, Any],
    variables: dict,
    logits: Callable,
    module: AnyNetwork | None = None,
  ):
    """Makes a network from `data`, a record of the data of a run, and `logits`: (variables, float images) → logits."""
    self.genotype, self.variables, self.module = genotype, variables, module
    self.classes, self.image_shape = tuple(data['classes']), tuple(data['image_shape'])
    self.mean, self.std = tuple(data['mean']), tuple(data['std'])
    self.resize = data.get('resize', 0)

    def predict(variables, images):
      return logits(variables, normalize(images, self.mean, self.std))

    self.predict = jax.jit(predict)

  def __call__(self, images: ArrayLike) -> jax.Array:
    """Returns the logits [B, number of classes] of uint8 images [B, H, W, C]. Raises InputError for other images."""
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.shape[1:] != self.image_shape:
      raise InputError(
        f'images are {images.dtype} {list(images.shape)}: expected uint8 [B, {str(list(self.image_shape))[1:]}'
      )
    return self.predict(self.variables, images)


def load_retrained(path: str | pathlib.Path) -> TrainedNetwork:
  """Loads the network of a finished retraining from its folder. Raises InputError, as `load_run` and `read_data`."""
  genotype, variables = load_run(path)
  path = pathlib.Path(os.path.expanduser(path))
  config = read_json(path / 'config.json', 'expected JSON')
  is_cropped = config['data']['source'] == STREAMED_SOURCE
  data = read_data(path) | {'resize': config['data']['resize'] if is_cropped else 0}
  options = NetworkOptions(**config['network'])
  module = make_network(genotype, len(data['classes']), options, tuple(data['image_shape'][:2]))
  return of_module(module, variables, data)


def of_module(module: AnyNetwork, variables: dict, data: Mapping[str, Any]) -> TrainedNetwork:
  """Makes a TrainedNetwork from a module. `data` has classes, image_shape, mean and std, as a record of data."""

  def logits(variables, images):
    return evaluation_logits(module, variables, images)

  return TrainedNetwork(module.genotype, data, variables, logits, module)


def read_data(path: str | pathlib.Path) -> dict[str, Any]:
  """Reads the record of the data of a run from its folder.

  Raises:
    InputError: there is none. Versions before this one did not write it.
  """
  file = pathlib.Path(path) / 'environment.json'
  data = read_json(file, 'expected JSON').get('data') if file.is_file() else None
  if not data:
    raise InputError(f'{path} has no record of its data: expected the folder of a run of this version')
  return data

"""Loads the network of a finished run: a retraining's, or the supernet of a search restricted to its cell."""

import os
import pathlib

import jax

from beta_darts_jax.errors import InputError
from beta_darts_jax.retrain.trained import TrainedNetwork, load_retrained, read_data
from beta_darts_jax.runtime.checkpoint import load_arrays
from beta_darts_jax.runtime.files import read_json
from beta_darts_jax.search.setup import kept_supernet
from beta_darts_jax.spaces.lookup import find_genotype


def load(path: str | pathlib.Path) -> TrainedNetwork:
  """Loads a network that predicts from uint8 images, without the data of its run.

  For a search it is the supernet with the weights of the last epoch, restricted to the cell that was found. Its
  BatchNorm uses the statistics of the given images, since the moving averages are those of all operations together. So
  give it many images at once. Its accuracy says little about the cell: retrain the cell for that.

  Args:
    path: the folder of a finished retraining or search, or a folder members/K.

  Raises:
    InputError: `path` is none of these, its checkpoint is damaged, or an older version wrote it.
  """
  folder = pathlib.Path(os.path.expanduser(path))
  run, member = (folder.parents[1], int(folder.name)) if _is_member(folder) else (folder, 0)
  if not (run / 'config.json').is_file():
    raise InputError(f'{path} is not the folder of a run: it has no config.json')
  config = read_json(run / 'config.json', 'expected JSON')
  return load_retrained(run) if config.get('task') == 'retrain' else _load_supernet(folder, run, member, config)


def _is_member(folder) -> bool:
  return folder.parent.name == 'members' and folder.name.isdecimal() and not (folder / 'config.json').exists()


def _load_supernet(folder, run, member, values) -> TrainedNetwork:
  genotype, _ = find_genotype(str(folder.absolute()))
  is_cropped = values['data'].get('crops') == 'resized'
  data = read_data(run) | {'resize': values['data']['resize'] if is_cropped else 0}
  supernet = kept_supernet(values, len(data['classes']))
  state = load_arrays(run)
  variables = {name: jax.tree.map(lambda x: x[member], state[name]) for name in ('params', 'batch_stats')}
  betas = supernet.space.one_hot(supernet.space.check(genotype))

  def logits(variables, images):
    draws = {'draw': jax.random.key(0)}
    return supernet.apply(variables, images, betas, train=True, mutable=['batch_stats'], rngs=draws)[0]

  return TrainedNetwork(genotype, data, variables, logits)

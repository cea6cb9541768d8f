"""The command that follows a run: it trains the cell of a search, or exports a trained network."""

import pathlib
import re
import shlex
from typing import Any, NamedTuple

from beta_darts_jax.config import keys_of
from beta_darts_jax.report.run_folder import RunFolder
from beta_darts_jax.report.tables import own_operations
from beta_darts_jax.spaces import PUBLISHED


class _Retraining(NamedTuple):
  """The configs that train the cells of a skeleton."""

  config: str
  protocols: dict[str, str]  # the data sets for which a config has the protocol
  batch_size: int


_RETRAININGS = {
  'nas_bench_201': _Retraining(
    'retrain_nas_bench_201', {name: f':{name}' for name in ('cifar10', 'cifar100', 'imagenet16_120')}, 256
  ),
  'darts': _Retraining('retrain_', {'cifar10': 'cifar10', 'cifar100': 'cifar100', 'imagenet2012': 'imagenet'}, 96),
  'mobile': _Retraining(
    'mobile',
    {'cifar10': ':cifar10,retrain', 'cifar100': ':cifar100,retrain', 'imagenet2012': ':imagenet,retrain'},
    128,
  ),
}
_ONE_SIZE = ('svhn_cropped',)  # data whose images have one size: a retraining does not take over the size of a proxy


def next_command(run: RunFolder) -> str:
  """Returns the command that trains the cell of a search, or exports a trained network; '' if no config does it.

  Only the user knows the config file that trains own operations. See also `has_stem_without_training`.
  """
  if own_operations(run) or has_stem_without_training(run):
    return ''
  if run.space is None:  # a retraining
    return f'beta-darts export {shlex.quote(str(run.path))} --format torch --out exported'
  found = next((member for member in run.member_rows if run.values(member).get('genotype')), None)
  if found is None:
    return ''
  cell = run.path / 'members' / str(found) if run.is_population else run.path
  skeleton, source = run.space.skeleton, run.config['data']['source']
  name, protocols, _ = _RETRAININGS[skeleton]
  config = name + protocols.get(source, protocols['cifar10'])
  suite = re.fullmatch('darts_bench_suite_(wide|deep|single_cell)_(regular|no_skip|all_skip)', run.config['name'])
  if suite and source == 'cifar10':
    config = f'darts_bench_suite:{suite[1]},{suite[2]},retrain'
  words = ['beta-darts', 'retrain', '--config', config, f'--config.genotype={_as_path(cell)}']
  defaults = {key.name: key.default for key in keys_of('retrain')}
  of_own_data: tuple[str, ...] = () if source in protocols else ('source', 'flip')
  of_own_data += () if source in (*protocols, *_ONE_SIZE) else ('image_size', 'crop_padding')
  names = ('class_weights', 'data_dir', *of_own_data)
  values = {f'data.{name}': run.config['data'].get(name, defaults[f'data.{name}']) for name in names}
  values = {name: value for name, value in values.items() if value != defaults[name]}
  if source not in protocols and (facts := run.environment.get('data')):
    values |= _values_for_small_data(skeleton, facts)
    # the pictures of resized crops may differ in size
    values |= {'data.image_size': facts['image_shape'][0]} if run.config['data'].get('crops') == 'resized' else {}
  words += [f'--config.{name}={value}' for name, value in values.items()]
  return shlex.join([*words, '--workdir', f'{run.path}-retrained'])  # not the default: all searches would share it


def has_stem_without_training(run: RunFolder) -> bool:
  """Returns whether a search has the stem of ImageNet on other data. No config trains such a network."""
  if run.space is None or run.space.skeleton != 'darts':
    return False
  return run.config['supernet'].get('stem') == 'imagenet' and run.config['data']['source'] != 'imagenet2012'


def _as_path(folder: pathlib.Path) -> str:
  """Returns the text of a folder, which is not taken for the name of a published cell."""
  text = str(folder)
  return f'./{text}' if text in PUBLISHED else text


def _values_for_small_data(skeleton: str, facts: dict) -> dict[str, Any]:
  """Returns what the protocol needs for few or small images: the largest power of two that fits as the batch size."""
  values: dict[str, Any] = {}
  if (images := facts['train']['images']) < _RETRAININGS[skeleton].batch_size:
    values['train.batch_size'] = 2 ** (images.bit_length() - 1)
  if skeleton == 'darts' and (size := min(facts['image_shape'][:2])) < 32:
    values |= {'network.auxiliary_weight': 0.0} | ({'data.cutout': 4} if size <= 16 else {})
  return values

"""Writes a trained network as a file of plain PyTorch modules, and its variables under the names of these modules."""

import ast
import pathlib
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import flax
import numpy as np

from beta_darts_jax.errors import InputError
from beta_darts_jax.networks import BUILT_IN, MobileNetwork, Network
from beta_darts_jax.networks.mobile.skeleton import stage_plan, stem_stride
from beta_darts_jax.networks.plan import cell_plan, edge_stride, equal_cells
from beta_darts_jax.retrain.setup import AnyNetwork
from beta_darts_jax.spaces.genotype import Cell

MODULES = pathlib.Path(__file__).parent / 'torch_modules.py'
WIDTH = 110  # of the lines of a sum
HEAD_WIDTH = 768  # features of the auxiliary head's classifier in torch_modules.py

# operation of stride 1 or 2 → its module; every edge has as many channels at its end as at its start
OPERATIONS = {
  'none': 'Zero(stride={stride})',
  'nor_conv_1x1': 'ReluConvBatchNorm(channels, channels, kernel_size=1, stride={stride})',
  'nor_conv_3x3': 'ReluConvBatchNorm(channels, channels, kernel_size=3, stride={stride})',
  'avg_pool_3x3': 'nn.AvgPool2d(3, stride={stride}, padding=1, count_include_pad=False)',
  'max_pool_3x3': 'nn.MaxPool2d(3, stride={stride}, padding=1)',
  'sep_conv_3x3': 'SeparableConv(channels, kernel_size=3, stride={stride})',
  'sep_conv_5x5': 'SeparableConv(channels, kernel_size=5, stride={stride})',
  'sep_conv_7x7': 'SeparableConv(channels, kernel_size=7, stride={stride})',
  'dil_conv_3x3': 'DilatedConv(channels, kernel_size=3, stride={stride})',
  'dil_conv_5x5': 'DilatedConv(channels, kernel_size=5, stride={stride})',
  'conv_7x1_1x7': 'FactorizedConv(channels, stride={stride})',
  'noise': 'Noise(stride={stride})',
}
_INVERTED_RESIDUAL = re.compile(r'mb_conv_(\d)x\d_e(\d)')  # kernel size, expansion
SKIP = {1: 'nn.Identity()', 2: 'FactorizedReduce(channels, channels)'}  # by stride

_HEADER = '''\
"""A network of beta_darts_jax as plain PyTorch modules. SPDX-License-Identifier: Apache-2.0

{genotype}
"""

import torch
from torch import nn
'''


def torch_source(network: AnyNetwork, image_shape: tuple[int, ...]) -> str:
  """Returns the text of model.py. Its class Network has the sizes of `network` as default values.

  A network with an auxiliary head is in the class NetworkWithAuxiliaryHead, too. The strides of a chain depend on the
  (H, W, C) of the images.

  Raises:
    InputError: an operation is not built in, or is no inverted residual in a chain, or batch normalization is not
      affine.
  """
  check_torch(network)
  height, width, image_channels = image_shape
  constants: dict[str, Any] = {'NUM_CLASSES': network.num_classes, 'IMAGE_CHANNELS': image_channels}
  constants['CHANNELS'] = network.channels
  if isinstance(network, MobileNetwork):
    top, cells = 'MobileNetwork', {}
    constants |= {'STEM_STRIDE': stem_stride((height, width)), 'STAGES': _stages(network, (height, width))}
  elif isinstance(network, Network):
    constants['LAYERS'], top = network.layers, 'DartsNetwork'
    cells = {'NormalCell': (network.genotype.normal, 'normal'), 'ReductionCell': (network.genotype.reduce, 'reduce')}
    top = 'NetworkWithAuxiliaryHead' if network.auxiliary else top
  else:
    constants['CELLS_PER_STAGE'], top = network.cells_per_stage, 'NasBench201Network'
    cells = {'Cell': (network.genotype.normal, 'cell')}
  skips = getattr(network, 'auxiliary_skip', False)
  cell_texts = [_cell_class(name, *cell, skips) for name, cell in cells.items()]
  templates = _templates()
  if isinstance(network, Network) and network.stem == 'imagenet':
    templates['DartsNetwork'] = templates['DartsNetwork'].replace('CifarStem', 'ImageNetStem')
  used = _used(' '.join([top, *cell_texts]), templates)
  skeleton = [name for name in used if 'Network' in name]
  header = _HEADER.format(genotype='\n'.join(textwrap.wrap(str(network.genotype), WIDTH)))
  parts = [
    header + '\n' + '\n'.join(f'{name} = {value}' for name, value in constants.items()),
    *(templates[name] for name in used if name not in skeleton),
    *cell_texts,
    *(templates[name] for name in skeleton),
  ]
  return re.sub(r'\b(Darts|NasBench201|Mobile)Network\b', 'Network', '\n\n\n'.join(parts)) + '\n'


def check_torch(network: AnyNetwork) -> None:
  """Raises InputError if the network has no PyTorch form."""
  for name in {name for cell in network.genotype.cells for name in cell.operations} - BUILT_IN:
    raise InputError(f'the operation {name!r} is not built in, so it has no PyTorch form: expected format stablehlo')
  if isinstance(network, MobileNetwork):
    for name in {name for stage in network.genotype.cells for name in stage.operations} - {'skip_connect'}:
      if not _INVERTED_RESIDUAL.fullmatch(name):
        raise InputError(f'the operation {name!r} has no PyTorch form in a chain: expected format stablehlo')
  if not network.affine:
    raise InputError('batch normalization is not affine: expected a retrained network')


def _stages(network: MobileNetwork, image_size: tuple[int, int]) -> str:
  """Returns the constant STAGES of the template, one line for each stage."""
  lines = []
  for stage in stage_plan(network.channels, image_size):
    matches = map(_INVERTED_RESIDUAL.fullmatch, network.genotype.cells[stage.number].operations)
    layers = [(int(match[1]), int(match[2])) if match else None for match in matches]
    lines.append(f'  ({stage.channels}, {stage.stride}, {layers}),')
  return '\n'.join(['[', *lines, ']'])


def _templates() -> dict[str, str]:
  """Returns {class: its text} of torch_modules.py."""
  text = MODULES.read_text(encoding='utf-8')
  classes = (node for node in ast.parse(text).body if isinstance(node, ast.ClassDef))
  return {node.name: str(ast.get_source_segment(text, node)) for node in classes}


def _used(text: str, templates: Mapping[str, str]) -> list[str]:
  """Returns the classes that a text names, directly or through another class, in the order of `templates`."""
  found: set[str] = set()
  while new := {name for name in templates if re.search(rf'\b{name}\b', text)} - found:
    found |= new
    text = ' '.join(templates[name] for name in new)
  return [name for name in templates if name in found]


def _cell_class(name: str, cell: Cell, cell_type: str, auxiliary_skip: bool) -> str:
  """Returns the text of the class of a cell, with one module for each edge and one line for each node."""
  modules, nodes = [], []
  for target, node in enumerate(cell.nodes, start=cell.num_inputs):
    terms = []
    for k, (operation, source) in enumerate(node):
      edge, stride = f'edge_{target}_{k}', edge_stride(cell_type, source, cell.num_inputs)
      modules.append(f'self.{edge} = {_module(operation, stride)}')
      terms.append(f'self.{edge}(node_{source})')
      if auxiliary_skip:
        modules.append(f'self.{edge}_auxiliary_skip = {SKIP[stride]}')
        terms.append(f'self.{edge}_auxiliary_skip(node_{source})')
    nodes.append(f'node_{target} = {_sum(terms)}')
  text = _TWO_INPUTS if cell.concat else _ONE_INPUT
  return text.format(
    name=name,
    modules='\n    '.join(modules),
    nodes='\n    '.join(nodes),
    last=len(cell.nodes),
    width=len(cell.concat),
    concat=', '.join(f'node_{i}' for i in cell.concat),
  ).rstrip()


def _module(operation: str, stride: int) -> str:
  if match := _INVERTED_RESIDUAL.fullmatch(operation):
    sizes = f'kernel_size={match[1]}, expansion={match[2]}, stride={stride}'
    return f'InvertedResidual(channels, channels, {sizes})'
  return SKIP[stride] if operation == 'skip_connect' else OPERATIONS[operation].format(stride=stride)


def _sum(terms: list[str]) -> str:
  """Writes a sum in one line, or in one line for each term if it is long."""
  line = ' + '.join(terms)
  return line if len(line) < WIDTH else '({})'.format('\n      + '.join(['\n      ' + terms[0], *terms[1:]]) + '\n    ')


_ONE_INPUT = '''
class {name}(nn.Module):
  """The cell. A node is the sum of the edges that enter it; edge_T_K is edge K into node T."""

  def __init__(self, channels):
    super().__init__()
    {modules}

  def forward(self, node_0):
    {nodes}
    return node_{last}
'''.lstrip()
_TWO_INPUTS = '''
class {name}(nn.Module):
  """One of the two cells. A node is the sum of the edges that enter it; edge_T_K is edge K into node T.

  The inputs are the outputs of the two cells before, which have `older` and `newer` channels.
  """

  def __init__(self, older, newer, channels, after_reduction):
    super().__init__()
    self.out_channels = {width} * channels
    self.preprocess0 = (FactorizedReduce if after_reduction else ReluConvBatchNorm)(older, channels)
    self.preprocess1 = ReluConvBatchNorm(newer, channels)
    {modules}

  def forward(self, older, newer):
    node_0, node_1 = self.preprocess0(older), self.preprocess1(newer)
    {nodes}
    return torch.cat([{concat}], dim=1)
'''.lstrip()


# ---- variables ----

_LEAVES = {'kernel': 'weight', 'scale': 'weight', 'bias': 'bias', 'mean': 'running_mean', 'var': 'running_var'}


def torch_state_dict(network: AnyNetwork, variables: Mapping) -> dict[str, np.ndarray]:
  """Returns the variables under the names, and in the layouts, of the modules of `torch_source`.

  Convolutions become [out, in, height, width] and linear layers [out, in]. Equal cells, which are stacked along a
  leading axis, become cells of their own.

  Raises:
    InputError: the network has an auxiliary head for images of another size than those of DARTS.
  """
  head = variables['params']['network'].get('auxiliary_head')
  if head and head['classifier']['kernel'].shape[0] != HEAD_WIDTH:
    raise InputError(
      'the auxiliary head is that of images of another size: expected 32×32 (CIFAR) or 224×224 (ImageNet), or '
      'auxiliary=False'
    )
  flat = flax.traverse_util.flatten_dict({name: variables[name] for name in ('params', 'batch_stats')})
  state_dict = {}
  for (_, _, module, *path, leaf), array in flat.items():
    # 'cell' and 'reduce' have no module of their own there, and layers have numbers
    inner = [re.sub(r'^layer_(\d+)$', r'\1', name) for name in path if name not in ('cell', 'reduce')]
    for name, single in _unstack(network, module, np.asarray(array)):
      order = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[single.ndim]
      state_dict['.'.join([name, *inner, _LEAVES[leaf]])] = np.array(single.transpose(order), order='C')
  return state_dict


def _unstack(network, module: str, array: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
  """Yields the PyTorch name of a module of the skeleton and its array; for stacked cells one pair for each cell."""
  if isinstance(network, MobileNetwork):
    yield re.sub(r'^stage(\d)$', lambda match: f'stages.{int(match[1]) - 1}', module), array
  elif module.startswith('stage'):
    yield from ((f'{module}.{i}', part) for i, part in enumerate(array))
  elif module.startswith('cells_'):
    first = int(module.removeprefix('cells_'))
    length = dict(equal_cells(cell_plan(network.layers, 1, reduced=network.stem == 'imagenet')))[first]
    yield from ((f'cells.{first + i}', part) for i, part in enumerate(array if length > 1 else [array]))
  elif isinstance(network, Network):
    yield ('stem.last' if module == 'stem1' else re.sub('^stem0?_', 'stem.', module)), array
  else:
    yield module, array

"""Weights of the official PyTorch programs as our variables, and back.

A state dict is `{name: numpy array}` in PyTorch's layouts: convolution
[out, in, kh, kw], linear [out, in]. Both directions read one list of entries:
an official name, its place in our variables, and how the layouts differ.
"""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from beta_darts_jax.errors import InputError
from beta_darts_jax.networks.plan import cell_plan, equal_cells, equal_edges
from beta_darts_jax.spaces.genotype import Cell, Genotype
from beta_darts_jax.spaces.space import SearchSpace

# layout → axes from PyTorch's to ours
_AXES = {'convolution': (2, 3, 1, 0), 'linear': (1, 0), 'vector': (0,)}


@dataclasses.dataclass(frozen=True)
class Entry:
  """One array.

  Attributes:
    name: in the state dict.
    path: in our variables.
    layout: a key of _AXES.
    stack: (index, length) of each leading axis of our array, outermost first: where scanned modules are stacked.
  """

  name: str
  path: tuple[str, ...]
  layout: str
  stack: tuple[tuple[int, int], ...] = ()

  def within(self, name: str, path: tuple[str, ...], *stack: tuple[int, int]) -> 'Entry':
    """The entry of an enclosing module."""
    collection, *inner = self.path
    return Entry(f'{name}{self.name}', (collection, *path, *inner), self.layout, (*stack, *self.stack))


def _conv(name, *path):
  yield Entry(f'{name}.weight', ('params', *path, 'kernel'), 'convolution')


def _norm(name, *path, affine):
  for ours, theirs in (('scale', 'weight'), ('bias', 'bias')):
    if affine:
      yield Entry(f'{name}.{theirs}', ('params', *path, ours), 'vector')
  for ours, theirs in (('mean', 'running_mean'), ('var', 'running_var')):
    yield Entry(f'{name}.{theirs}', ('batch_stats', *path, ours), 'vector')


def _linear(name, *path):
  yield Entry(f'{name}.weight', ('params', *path, 'kernel'), 'linear')
  yield Entry(f'{name}.bias', ('params', *path, 'bias'), 'vector')


def _relu_conv_bn(affine):
  yield from _conv('op.1', 'conv')
  yield from _norm('op.2', 'batch_norm', affine=affine)


def _factorized_reduce(affine):
  yield from _conv('conv_1', 'conv_1')
  yield from _conv('conv_2', 'conv_2')
  yield from _norm('bn', 'batch_norm', affine=affine)


def _operation(operation: str, stride: int, affine: bool) -> Iterator[Entry]:
  """Entries of a candidate operation, relative to it."""
  if operation == 'skip_connect' and stride == 2:
    yield from (entry.within('', ('reduce',)) for entry in _factorized_reduce(affine))
  elif operation.startswith('nor_conv'):
    yield from _relu_conv_bn(affine)
  elif operation.startswith('sep_conv'):
    for i, first in ((1, 1), (2, 5)):
      yield from _conv(f'op.{first}', f'depthwise_{i}')
      yield from _conv(f'op.{first + 1}', f'pointwise_{i}')
      yield from _norm(f'op.{first + 2}', f'batch_norm_{i}', affine=affine)
  elif operation.startswith('dil_conv'):
    yield from _conv('op.1', 'depthwise')
    yield from _conv('op.2', 'pointwise')
    yield from _norm('op.3', 'batch_norm', affine=affine)
  elif operation == 'conv_7x1_1x7':
    yield from _conv('1', 'conv_1x7')
    yield from _conv('2', 'conv_7x1')
    yield from _norm('3', 'batch_norm', affine=affine)


def _nas_bench_201(cell: list[Entry], cells_per_stage: int) -> Iterator[Entry]:
  """`cell`: entries of a cell, relative to it."""
  yield from _conv('stem.0', 'stem_conv')
  yield from _norm('stem.1', 'stem_batch_norm', affine=True)
  for stage in range(3):
    first = stage * (cells_per_stage + 1)
    if stage:
      block, path = f'cells.{first - 1}', (f'reduction{stage}',)
      for part in ('conv_a', 'conv_b'):
        yield from (entry.within(f'{block}.{part}.', (*path, part)) for entry in _relu_conv_bn(affine=True))
      yield from _conv(f'{block}.downsample.1', *path, 'shortcut')
    for i in range(cells_per_stage):
      for entry in cell:
        yield entry.within(f'cells.{first + i}.', (f'stage{stage + 1}',), (i, cells_per_stage))
  yield from _norm('lastact.0', 'last_batch_norm', affine=True)
  yield from _linear('classifier', 'classifier')


def _search_cell(space: SearchSpace, cell_type: str, edge_name) -> Iterator[Entry]:
  """Entries of a cell of the supernet, relative to it; `edge_name` calls row e of α as the official program does."""
  for stride, edges in equal_edges(space, cell_type):
    for i, e in enumerate(edges):
      stack = [(i, len(edges))] if len(edges) > 1 else []
      for k, operation in enumerate(space.candidates(cell_type)[e]):
        entries = [entry.within('', (operation,)) for entry in _operation(operation, stride, affine=False)]
        if 'pool' in operation and space.skeleton == 'darts':
          entries += _norm('1', f'{operation}_batch_norm', affine=False)
        for entry in entries:
          yield entry.within(f'{edge_name(e)}.{k}.', (f'edges_{edges[0]}',), *stack)


def _discrete_cell(cell: Cell, cell_type: str, edges: str) -> Iterator[Entry]:
  """Entries of a discrete cell, relative to it; `edges` is the official list of them."""
  e = 0
  for target, node in enumerate(cell.nodes, start=cell.num_inputs):
    for k, (operation, source) in enumerate(node):
      stride = 2 if cell_type == 'reduce' and source < cell.num_inputs else 1
      for entry in _operation(operation, stride, affine=True):
        yield entry.within(f'{edges}.{e}.', (f'edge_{target}_{k}',))
      e += 1


def _darts(cell_of, depth: int, affine: bool, stem: str, auxiliary: bool) -> Iterator[Entry]:
  """`cell_of` gives the entries of a cell type, relative to the cell."""
  if stem == 'imagenet':
    for conv, norm, i in ((0, 1, 1), (3, 4, 2)):
      yield from _conv(f'stem0.{conv}', f'stem0_conv_{i}')
      yield from _norm(f'stem0.{norm}', f'stem0_batch_norm_{i}', affine=True)
    yield from _conv('stem1.1', 'stem1', 'conv')
    yield from _norm('stem1.2', 'stem1', 'batch_norm', affine=True)
  else:
    yield from _conv('stem.0', 'stem_conv')
    yield from _norm('stem.1', 'stem_batch_norm', affine=True)
  plan = cell_plan(depth, 1, reduced=stem == 'imagenet')
  for first, length in equal_cells(plan):
    cell_type, _, after_reduction = plan[first]
    entries = [entry.within('', ('cell',)) for entry in cell_of(cell_type)]
    preprocess0 = _factorized_reduce(affine) if after_reduction else _relu_conv_bn(affine)
    entries += [entry.within('preprocess0.', ('preprocess0',)) for entry in preprocess0]
    entries += [entry.within('preprocess1.', ('preprocess1',)) for entry in _relu_conv_bn(affine)]
    for i in range(length):
      stack = [(i, length)] if length > 1 else []
      for entry in entries:
        yield entry.within(f'cells.{first + i}.', (f'cells_{first}',), *stack)
  if auxiliary:
    yield from _conv('auxiliary_head.features.2', 'auxiliary_head', 'conv_1')
    yield from _norm('auxiliary_head.features.3', 'auxiliary_head', 'batch_norm_1', affine=True)
    yield from _conv('auxiliary_head.features.5', 'auxiliary_head', 'conv_2')
    if stem != 'imagenet':
      yield from _norm('auxiliary_head.features.6', 'auxiliary_head', 'batch_norm_2', affine=True)
    yield from _linear('auxiliary_head.classifier', 'auxiliary_head', 'classifier')
  yield from _linear('classifier', 'classifier')


def _supernet_entries(space: SearchSpace, num_cells: int) -> list[Entry]:
  if space.skeleton == 'darts':
    cell_of = lambda cell_type: _search_cell(space, cell_type, '_ops.{}._ops'.format)
    return list(_darts(cell_of, num_cells, False, 'cifar', False))
  edge_name = lambda e: 'edges.{}<-{}'.format(*space.edges[e])
  return list(_nas_bench_201(list(_search_cell(space, 'cell', edge_name)), num_cells))


def _network_entries(genotype: Genotype, num_cells: int, stem: str, auxiliary: bool) -> list[Entry]:
  if len(genotype.cells) == 1:
    return list(_nas_bench_201(list(_discrete_cell(genotype.cells[0], 'cell', 'layers')), num_cells))
  cells = {'normal': genotype.normal, 'reduce': genotype.reduce}
  cell_of = lambda cell_type: _discrete_cell(cells[cell_type], cell_type, '_ops')
  return list(_darts(cell_of, num_cells, True, stem, auxiliary))


def _official_cells(state_dict, num_cell_types: int) -> int:
  """Cells in all; with one cell type, NAS-Bench-201's: cells a stage, as far as the first block."""
  if num_cell_types == 1:
    number = min((int(n.split('.')[1]) for n in state_dict if n.endswith('.downsample.1.weight')), default=0)
  else:
    number = len({name.split('.')[1] for name in state_dict if name.startswith('cells.')})
  if not number:
    raise InputError('the state dict has no cells of that kind: allowed is that of a whole network')
  return number


def _our_cells(variables, num_cell_types: int) -> int:
  """As _official_cells."""
  params = variables['params']['network']
  if num_cell_types == 1:
    if 'stage1' not in params:
      raise InputError('the cells have no weights, so their number is not known: allowed are cells with weights')
    return len(next(_leaves(params['stage1'])))
  first = max((int(name.removeprefix('cells_')) for name in params if name.startswith('cells_')), default=None)
  if first is None:
    raise InputError('the variables have no cells of that kind: allowed are those of a whole network')
  kernel = params[f'cells_{first}']['preprocess1']['conv']['kernel']
  return first + (len(kernel) if kernel.ndim == 5 else 1)


def _leaves(tree):
  for value in tree.values():
    yield from _leaves(value) if isinstance(value, Mapping) else [value]


def _to_variables(state_dict: Mapping[str, np.ndarray], entries: list[Entry]) -> dict:
  left = {name: np.asarray(value) for name, value in state_dict.items() if not name.endswith('num_batches_tracked')}
  for alphas in ('_arch_parameters', 'alphas_normal', 'alphas_reduce'):
    left.pop(alphas, None)
  variables: dict = {'params': {}, 'batch_stats': {}}
  for entry in entries:
    if entry.name not in left:
      raise InputError(f'the state dict has no {entry.name}')
    array = left.pop(entry.name)
    if array.ndim != len(_AXES[entry.layout]):
      raise InputError(f'{entry.name} has shape {array.shape}, allowed are {len(_AXES[entry.layout])} axes')
    array = array.transpose(_AXES[entry.layout])
    collection, *inner, last = entry.path
    node = variables[collection].setdefault('network', {})
    for part in inner:
      node = node.setdefault(part, {})
    indices, lengths = zip(*entry.stack, strict=True) if entry.stack else ((), ())
    whole = node.setdefault(last, np.empty((*lengths, *array.shape), array.dtype))
    if whole[indices].shape != array.shape:
      raise InputError(f'{entry.name} has shape {array.shape}, allowed is {whole[indices].shape}, as its neighbours')
    whole[indices] = array
  if left:
    raise InputError(f'the state dict has weights that this network lacks: {", ".join(sorted(left)[:3])}')
  return variables


def _to_state_dict(variables: Mapping, entries: list[Entry]) -> dict[str, np.ndarray]:
  state_dict = {}
  for entry in entries:
    collection, *inner = entry.path
    array = variables[collection]['network']
    for part in inner:
      array = array[part]
    array = np.asarray(array)[tuple(index for index, _ in entry.stack)]
    state_dict[entry.name] = array.transpose(np.argsort(_AXES[entry.layout]))
  ours = sum(np.size(leaf) for collection in ('params', 'batch_stats') for leaf in _leaves(variables[collection]))
  if sum(map(np.size, state_dict.values())) != ours:
    raise InputError('the official program has no place for some of these weights (auxiliary skips?)')
  return state_dict


def supernet_variables(state_dict: Mapping[str, np.ndarray], space: SearchSpace) -> dict:
  """Variables of `Supernet(space, …)` from the official supernet of that space.

  Args:
    state_dict: `model.state_dict()` as numpy arrays; dtypes are kept; its α is left aside.
    space: NAS_BENCH_201, or of the DARTS family.

  Returns:
    {'params': …, 'batch_stats': …}; equal cells are stacked along a leading axis.

  Raises:
    InputError: a weight is missing, or some are left over.
  """
  return _to_variables(state_dict, _supernet_entries(space, _official_cells(state_dict, len(space.cell_types))))


def supernet_state_dict(variables: Mapping, space: SearchSpace) -> dict[str, np.ndarray]:
  """The inverse of `supernet_variables`: what the official supernet's `load_state_dict` takes.

  α is left out: NAS-Bench-201's supernet, which keeps it among its parameters, needs `strict=False`.
  """
  return _to_state_dict(variables, _supernet_entries(space, _our_cells(variables, len(space.cell_types))))


def network_variables(state_dict: Mapping[str, np.ndarray], genotype: Genotype) -> dict:
  """Variables of `Network(genotype, …)` or `NasBench201Network(genotype, …)` from the official network.

  Args:
    state_dict: `model.state_dict()` as numpy arrays: of DARTS' CIFAR or ImageNet network, with or without an auxiliary
      head, or of NAS-Bench-201's.
    genotype: of that network.

  Raises:
    InputError: a weight is missing, or some are left over.
  """
  stem = 'imagenet' if 'stem0.0.weight' in state_dict else 'cifar'
  auxiliary = 'auxiliary_head.classifier.weight' in state_dict
  num_cells = _official_cells(state_dict, len(genotype.cells))
  return _to_variables(state_dict, _network_entries(genotype, num_cells, stem, auxiliary))


def network_state_dict(variables: Mapping, genotype: Genotype) -> dict[str, np.ndarray]:
  """The inverse of `network_variables`: a trained network leaves for PyTorch, as numpy arrays in its layouts.

  `retrain.load_run` gives the variables of a finished training; `torch.from_numpy` makes tensors of the arrays.
  Raises InputError for networks with auxiliary skips, and of NAS-Bench-201 where no cell has a weight.
  """
  params = variables['params']['network']
  stem = 'imagenet' if 'stem1' in params else 'cifar'
  num_cells = _our_cells(variables, len(genotype.cells))
  entries = _network_entries(genotype, num_cells, stem, 'auxiliary_head' in params)
  return _to_state_dict(variables, entries)

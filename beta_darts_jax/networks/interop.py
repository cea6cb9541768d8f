"""Converts the weights of the official PyTorch programs to our variables and back.

A state dict is `{name: numpy array}` in PyTorch's layouts: convolution [out, in, kh, kw], linear [out, in]. Both
directions read one list of entries. An entry holds an official name, its place in our variables, and how the layouts
differ.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping

import flax
import jax
import numpy as np

from beta_darts_jax.errors import InputError
from beta_darts_jax.networks.plan import cell_plan, edge_stride, equal_cells, equal_edges
from beta_darts_jax.spaces.genotype import Cell, Genotype
from beta_darts_jax.spaces.space import SearchSpace

# layout → the permutation of axes from PyTorch's layout to ours
_AXES = {'convolution': (2, 3, 1, 0), 'linear': (1, 0), 'vector': (0,)}
_COLLECTIONS = ('params', 'batch_stats')
_ALPHAS = ('_arch_parameters', 'arch_parameters', 'alphas_normal', 'alphas_reduce')


@dataclasses.dataclass(frozen=True)
class Entry:
  """One array of a state dict. Equal modules are stacked along the leading axes of our array."""

  name: str  # in the state dict
  path: tuple[str, ...]  # in our variables, below the module 'network'
  layout: str  # a key of _AXES
  stack: tuple[tuple[int, int], ...] = ()  # (index, length) for each leading axis, outermost first

  @property
  def variable_path(self) -> tuple[str, ...]:
    """The path in the variables of a whole network."""
    collection, *inner = self.path
    return (collection, 'network', *inner)

  def within(self, name: str, path: tuple[str, ...], *stack: tuple[int, int]) -> 'Entry':
    """Returns the entry as part of an enclosing module, which has `name`, `path` and `stack`."""
    collection, *inner = self.path
    path, stack = (collection, *path, *inner), (*stack, *self.stack)
    return dataclasses.replace(self, name=f'{name}{self.name}', path=path, stack=stack)


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
  """Yields the entries of a candidate operation, relative to it."""
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
  """Yields the entries of a network; `cell` has those of a cell, relative to it."""
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


def _search_cell(
  space: SearchSpace, cell_type: str, edge_name: Callable[[int], str], auxiliary_skip: bool = False
) -> Iterator[Entry]:
  """Yields the entries of a cell of the supernet, relative to it; `edge_name` gives the official name of row e of α."""
  for stride, edges in equal_edges(space, cell_type):
    for i, e in enumerate(edges):
      stack = [(i, len(edges))] if len(edges) > 1 else []
      for k, operation in enumerate(space.candidates(cell_type)[e]):
        entries = [entry.within('', (operation,)) for entry in _operation(operation, stride, affine=False)]
        if 'pool' in operation and space.skeleton == 'darts':
          entries += _norm('1', f'{operation}_batch_norm', affine=False)
        for entry in entries:
          yield entry.within(f'{edge_name(e)}.{k}.', (f'edges_{edges[0]}',), *stack)
      if auxiliary_skip:
        name = f'{edge_name(e).removesuffix("_ops")}auxiliary_op.'
        for entry in _operation('skip_connect', stride, affine=False):
          yield entry.within(name, (f'edges_{edges[0]}', 'auxiliary_skip'), *stack)


def _discrete_cell(cell: Cell, cell_type: str, edges: str) -> Iterator[Entry]:
  """Yields the entries of a discrete cell, relative to it; `edges` is the official name of the list of edges."""
  e = 0
  for target, node in enumerate(cell.nodes, start=cell.num_inputs):
    for k, (operation, source) in enumerate(node):
      stride = edge_stride(cell_type, source, cell.num_inputs)
      for entry in _operation(operation, stride, affine=True):
        yield entry.within(f'{edges}.{e}.', (f'edge_{target}_{k}',))
      e += 1


def _darts_stem(stem: str) -> Iterator[Entry]:
  if stem == 'imagenet':
    for conv, norm, i in ((0, 1, 1), (3, 4, 2)):
      yield from _conv(f'stem0.{conv}', f'stem0_conv_{i}')
      yield from _norm(f'stem0.{norm}', f'stem0_batch_norm_{i}', affine=True)
    yield from _conv('stem1.1', 'stem1', 'conv')
    yield from _norm('stem1.2', 'stem1', 'batch_norm', affine=True)
  else:
    yield from _conv('stem.0', 'stem_conv')
    yield from _norm('stem.1', 'stem_batch_norm', affine=True)


def _auxiliary_head(stem: str) -> Iterator[Entry]:
  yield from _conv('auxiliary_head.features.2', 'auxiliary_head', 'conv_1')
  yield from _norm('auxiliary_head.features.3', 'auxiliary_head', 'batch_norm_1', affine=True)
  yield from _conv('auxiliary_head.features.5', 'auxiliary_head', 'conv_2')
  if stem != 'imagenet':
    yield from _norm('auxiliary_head.features.6', 'auxiliary_head', 'batch_norm_2', affine=True)
  yield from _linear('auxiliary_head.classifier', 'auxiliary_head', 'classifier')


def _darts(
  cells: Mapping[str, list[Entry]], depth: int, affine: bool, stem: str = 'cifar', auxiliary: bool = False
) -> Iterator[Entry]:
  """Yields the entries of a network; `cells` has those of each cell type, relative to the cell."""
  yield from _darts_stem(stem)
  plan = cell_plan(depth, 1, reduced=stem == 'imagenet')
  for first, length in equal_cells(plan):
    entries = [entry.within('', ('cell',)) for entry in cells[plan[first].cell_type]]
    preprocess0 = _factorized_reduce(affine) if plan[first].after_reduction else _relu_conv_bn(affine)
    entries += [entry.within('preprocess0.', ('preprocess0',)) for entry in preprocess0]
    entries += [entry.within('preprocess1.', ('preprocess1',)) for entry in _relu_conv_bn(affine)]
    for i in range(length):
      stack = [(i, length)] if length > 1 else []
      for entry in entries:
        yield entry.within(f'cells.{first + i}.', (f'cells_{first}',), *stack)
  if auxiliary:
    yield from _auxiliary_head(stem)
  yield from _linear('classifier', 'classifier')


def _supernet_entries(space: SearchSpace, num_cells: int, auxiliary_skip: bool) -> list[Entry]:
  def darts_edge(e: int) -> str:
    return f'_ops.{e}._ops'

  def nas_bench_201_edge(e: int) -> str:
    target, source = space.edges[e]
    return f'edges.{target}<-{source}'

  if space.skeleton == 'darts':
    cells = {
      cell_type: list(_search_cell(space, cell_type, darts_edge, auxiliary_skip)) for cell_type in space.cell_types
    }
    return list(_darts(cells, num_cells, affine=False))
  return list(_nas_bench_201(list(_search_cell(space, 'cell', nas_bench_201_edge)), num_cells))


def _network_entries(genotype: Genotype, num_cells: int, stem: str, auxiliary: bool) -> list[Entry]:
  if genotype.skeleton == 'nas_bench_201':
    return list(_nas_bench_201(list(_discrete_cell(genotype.cells[0], 'cell', 'layers')), num_cells))
  cells = {
    'normal': list(_discrete_cell(genotype.normal, 'normal', '_ops')),
    'reduce': list(_discrete_cell(genotype.reduce, 'reduce', '_ops')),
  }
  return list(_darts(cells, num_cells, affine=True, stem=stem, auxiliary=auxiliary))


def _official_cells(state_dict, skeleton: str) -> int:
  """Counts the cells of a state dict: all of them, or for NAS-Bench-201 those of one stage."""
  if skeleton == 'nas_bench_201':  # the cells before the first ResNet block
    number = min((int(n.split('.')[1]) for n in state_dict if n.endswith('.downsample.1.weight')), default=0)
  else:
    number = len({name.split('.')[1] for name in state_dict if name.startswith('cells.')})
  if not number:
    raise InputError('the state dict has no cells of this space: expected the state dict of a whole network')
  return number


def _our_cells(variables, skeleton: str) -> int:
  """Counts the cells of our variables, as `_official_cells` does."""
  params = variables['params']['network']
  if skeleton == 'nas_bench_201':
    if 'stage1' not in params:
      raise InputError('the cells have no weights, so they cannot be counted: expected cells with weights')
    return len(jax.tree.leaves(params['stage1'])[0])
  first = max((int(name.removeprefix('cells_')) for name in params if name.startswith('cells_')), default=None)
  if first is None:
    raise InputError('the variables have no cells of this space: expected the variables of a whole network')
  kernel = params[f'cells_{first}']['preprocess1']['conv']['kernel']
  return first + (len(kernel) if kernel.ndim == 5 else 1)


def _take_array(state_dict: dict[str, np.ndarray], entry: Entry) -> np.ndarray:
  """Removes the array of an entry from the state dict and returns it in our layout."""
  if entry.name not in state_dict:
    raise InputError(f'the state dict has no {entry.name}')
  array, axes = state_dict.pop(entry.name), _AXES[entry.layout]
  if array.ndim != len(axes):
    raise InputError(f'{entry.name} has shape {array.shape}: expected {len(axes)} axes')
  return array.transpose(axes)


def _with_our_names(state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns the weights alone, with the names of the official β-DARTS.

  AutoDL-Projects has a bias between a convolution and its BatchNorm. It is subtracted from the running mean, which
  changes no output. DrNAS has one more `op` in the name of a pool's BatchNorm.
  """
  arrays = {
    re.sub(r'\.op\.1\.(running_mean|running_var)$', r'.1.\1', name): np.asarray(value)
    for name, value in state_dict.items()
    if name not in _ALPHAS and not name.endswith('num_batches_tracked')
  }
  for name in [name for name in arrays if name.endswith('.op.1.bias')]:
    mean = f'{name.removesuffix("1.bias")}2.running_mean'
    if mean in arrays:
      arrays[mean] = arrays[mean] - arrays.pop(name)
  return arrays


def _to_variables(state_dict: Mapping[str, np.ndarray], entries: list[Entry]) -> dict:
  remaining = _with_our_names(state_dict)
  stacked: dict[tuple[str, ...], np.ndarray] = {}
  for entry in entries:
    array = _take_array(remaining, entry)
    indices, lengths = zip(*entry.stack, strict=True) if entry.stack else ((), ())
    whole = stacked.setdefault(entry.variable_path, np.empty((*lengths, *array.shape), array.dtype))
    if whole[indices].shape != array.shape:
      raise InputError(f'{entry.name} has shape {array.shape}: expected {whole[indices].shape}, as in the other cells')
    whole[indices] = array
  if remaining:
    raise InputError(f'the state dict has weights that the network does not have: {", ".join(sorted(remaining)[:3])}')
  return {collection: {} for collection in _COLLECTIONS} | flax.traverse_util.unflatten_dict(stacked)


def _to_state_dict(variables: Mapping, entries: list[Entry]) -> dict[str, np.ndarray]:
  arrays = flax.traverse_util.flatten_dict({collection: variables[collection] for collection in _COLLECTIONS})
  state_dict = {}
  for entry in entries:
    array = np.asarray(arrays[entry.variable_path])[tuple(index for index, _ in entry.stack)]
    state_dict[entry.name] = array.transpose(np.argsort(_AXES[entry.layout]))
  if sum(map(np.size, state_dict.values())) != sum(map(np.size, arrays.values())):
    raise InputError('some weights do not exist in the official program, such as those of auxiliary skips')
  return state_dict


def supernet_variables(state_dict: Mapping[str, np.ndarray], space: SearchSpace) -> dict:
  """Converts the weights of the official supernet of a space to variables of `Supernet(space, …)`.

  `state_dict` is `model.state_dict()` as numpy arrays; dtypes are kept and α is ignored. The supernets of β-DARTS,
  DARTS, PC-DARTS, DrNAS, DARTS-, SmoothDARTS, Λ-DARTS, DARTS-PT and AutoDL-Projects (GDAS) have such names. The space
  `mobile` has no official supernet of this form.

  Raises:
    InputError: a weight is missing or superfluous, or has another shape, or there are no cells.
  """
  auxiliary_skip = any('.auxiliary_op.' in name for name in state_dict)
  num_cells = _official_cells(state_dict, space.skeleton)
  return _to_variables(state_dict, _supernet_entries(space, num_cells, auxiliary_skip))


def supernet_state_dict(variables: Mapping, space: SearchSpace) -> dict[str, np.ndarray]:
  """Inverts `supernet_variables`: returns the argument of the official supernet's `load_state_dict`.

  It does not contain α. NAS-Bench-201's supernet has α among its parameters, so it needs `strict=False`.

  Raises:
    InputError: the variables have no cells of this space, or their cells have no weights.
  """
  auxiliary_skip = any('auxiliary_skip' in path for path in flax.traverse_util.flatten_dict(variables['params']))
  num_cells = _our_cells(variables, space.skeleton)
  return _to_state_dict(variables, _supernet_entries(space, num_cells, auxiliary_skip))


def network_variables(state_dict: Mapping[str, np.ndarray], genotype: Genotype) -> dict:
  """Converts the weights of an official network to variables of `Network(genotype, …)` or `NasBench201Network(…)`.

  `state_dict` is `model.state_dict()` as numpy arrays. The model is DARTS' CIFAR or ImageNet network, with or without
  an auxiliary head, or NAS-Bench-201's network.

  Raises:
    InputError: a weight is missing or superfluous, or has another shape, or there are no cells.
  """
  stem = 'imagenet' if 'stem0.0.weight' in state_dict else 'cifar'
  auxiliary = 'auxiliary_head.classifier.weight' in state_dict
  num_cells = _official_cells(state_dict, genotype.skeleton)
  return _to_variables(state_dict, _network_entries(genotype, num_cells, stem, auxiliary))


def network_state_dict(variables: Mapping, genotype: Genotype) -> dict[str, np.ndarray]:
  """Inverts `network_variables`: returns numpy arrays in PyTorch's layouts.

  `load_run` returns the variables of a finished training; `torch.from_numpy` makes tensors of the arrays.

  Raises:
    InputError: the network has auxiliary skips, or it is of NAS-Bench-201 and its cells have no weights.
  """
  params = variables['params']['network']
  stem = 'imagenet' if 'stem1' in params else 'cifar'
  num_cells = _our_cells(variables, genotype.skeleton)
  entries = _network_entries(genotype, num_cells, stem, 'auxiliary_head' in params)
  return _to_state_dict(variables, entries)

"""Weights of the official PyTorch programs as our variables.

A state dict is `{name: numpy array}` in PyTorch's layouts: convolution
[out, in, kh, kw], linear [out, in].
"""

from collections.abc import Mapping

import numpy as np

from beta_darts_jax.errors import InputError
from beta_darts_jax.spaces import SearchSpace


def supernet_variables(state_dict: Mapping[str, np.ndarray], space: SearchSpace) -> dict:
  """Variables of `Supernet(space, …)` from the official NAS-Bench-201 supernet.

  Args:
    state_dict: `model.state_dict()` as numpy arrays; dtypes are kept.
    space: NAS_BENCH_201.

  Returns:
    {'params': …, 'batch_stats': …}; cells of a stage are stacked along a leading axis.

  Raises:
    InputError: a weight is missing, or some are left over.
  """
  left = {name: np.asarray(value) for name, value in state_dict.items() if not name.endswith('num_batches_tracked')}
  left.pop('_arch_parameters', None)
  cells = sorted({int(name.split('.')[1]) for name in left if name.startswith('cells.')})
  per_stage, remainder = divmod(len(cells) - 2, 3)
  if space.skeleton != 'nas_bench_201' or per_stage < 1 or remainder:
    raise InputError(f'{len(cells)} cells do not make a NAS-Bench-201 supernet: allowed are 3·N cells and 2 blocks')

  def take(name):
    if name not in left:
      raise InputError(f'the state dict has no {name}')
    return left.pop(name)

  def conv(name):
    return {'kernel': take(f'{name}.weight').transpose(2, 3, 1, 0)}

  def batch_norm(name, affine):
    params = {'scale': take(f'{name}.weight'), 'bias': take(f'{name}.bias')} if affine else {}
    stats = {'mean': take(f'{name}.running_mean'), 'var': take(f'{name}.running_var')}
    return {'norm': params}, {'norm': stats}

  def relu_conv_bn(name, affine):
    params, stats = batch_norm(f'{name}.op.2', affine)
    params = {'conv': conv(f'{name}.op.1')} | ({'batch_norm': params} if affine else {})
    return params, {'batch_norm': stats}

  def search_cell(name):
    params, stats = {}, {}
    for (target, source), operations in zip(space.edges, space.operations, strict=True):
      edge = [
        (op, relu_conv_bn(f'{name}.edges.{target}<-{source}.{k}', affine=False))
        for k, op in enumerate(operations)
        if op.startswith('nor_conv')
      ]
      params[f'edge_{target}_{source}'] = {op: p for op, (p, _) in edge}
      stats[f'edge_{target}_{source}'] = {op: s for op, (_, s) in edge}
    return params, stats

  def block(name):
    (a, a_stats), (b, b_stats) = relu_conv_bn(f'{name}.conv_a', True), relu_conv_bn(f'{name}.conv_b', True)
    return {'conv_a': a, 'conv_b': b, 'shortcut': conv(f'{name}.downsample.1')}, {'conv_a': a_stats, 'conv_b': b_stats}

  params, stats = {'stem_conv': conv('stem.0')}, {}
  params['stem_batch_norm'], stats['stem_batch_norm'] = batch_norm('stem.1', True)
  for stage in range(3):
    first = stage * (per_stage + 1)
    if stage:
      params[f'reduction{stage}'], stats[f'reduction{stage}'] = block(f'cells.{first - 1}')
    stacked = _stack([search_cell(f'cells.{first + i}') for i in range(per_stage)])
    params[f'stage{stage + 1}'], stats[f'stage{stage + 1}'] = stacked
  params['last_batch_norm'], stats['last_batch_norm'] = batch_norm('lastact.0', True)
  params['classifier'] = {'kernel': take('classifier.weight').T, 'bias': take('classifier.bias')}
  if left:
    raise InputError(f'the state dict has weights that this supernet lacks: {", ".join(sorted(left)[:3])}')
  return {'params': {'network': params}, 'batch_stats': {'network': stats}}


def _stack(trees):
  """Equal trees of arrays → one tree with a leading axis."""
  if isinstance(trees[0], (dict, tuple)):
    items = trees[0].items() if isinstance(trees[0], dict) else enumerate(trees[0])
    stacked = {key: _stack([tree[key] for tree in trees]) for key, _ in items}
    return stacked if isinstance(trees[0], dict) else tuple(stacked.values())
  return np.stack(trees)

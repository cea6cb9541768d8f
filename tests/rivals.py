"""The numbers of the rivals' official programs in tests/golden/rivals, and the record of our largest differences.

docs/official_programs.py runs the tests that use this module and writes the record to docs/methods.md.
"""

import atexit
import json
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

from beta_darts_jax import Hyperparameters, SearchState, interop

FOLDER = pathlib.Path(__file__).parent / 'golden' / 'rivals'
DIFFERENCES: dict[str, dict[str, float]] = {}  # method → quantity → largest difference


def agree(method: str, quantity: str, ours, theirs, tolerance: float = 1e-12):
  """Asserts that two arrays are equal up to an absolute difference, and records the difference."""
  ours, theirs = np.asarray(ours), np.asarray(theirs)
  assert ours.shape == theirs.shape and ours.dtype == np.float64
  largest = float(np.abs(ours - theirs).max())
  of_method = DIFFERENCES.setdefault(method, {})
  of_method[quantity] = max(largest, of_method.get(quantity, 0.0))
  assert largest <= tolerance, f'{method}, {quantity}: {largest:.2g}'


@atexit.register
def _write():
  if folder := os.environ.get('OFFICIAL_DIFFERENCES'):
    (pathlib.Path(folder) / f'{os.getpid()}.json').write_text(json.dumps(DIFFERENCES))  # of one parallel process


class Golden:
  """One file: `golden[key]` is an array, widened to float64 if it has floats."""

  def __init__(self, name: str, space):
    with np.load(FOLDER / f'{name}.npz') as file, np.load(FOLDER / 'gradients.npz') as gradients:
      self.arrays = {key: file[key] for key in file.files}
      self.arrays |= {k.removeprefix(f'{name}/'): gradients[k] for k in gradients.files if k.startswith(f'{name}/')}
    self.space = space

  def __getitem__(self, key: str) -> np.ndarray:
    array = self.arrays[key]
    return array.astype(np.float64) if array.dtype.kind == 'f' else array

  def state_dict(self, prefix: str) -> dict[str, np.ndarray]:
    """The weights under a prefix, by their official names."""
    arrays, start = {}, 0
    for line in self.arrays[f'{prefix}names']:
      name, *shape = line.decode().split()
      shape = tuple(map(int, shape))
      size = int(np.prod(shape))
      arrays[name] = self.arrays[f'{prefix}values'][start : start + size].reshape(shape).astype(np.float64)
      start += size
    return arrays

  def variables(self, prefix: str = 'before/') -> dict:
    """Our variables of the weights under a prefix. Those that it lacks come from 'before/'."""
    whole = self.state_dict('before/') | self.state_dict(prefix)
    return jax.tree.map(jnp.asarray, interop.supernet_variables(whole, self.space))

  def alphas(self, pattern: str) -> dict:
    """α, or another array by cell type; `pattern` is a key, with {} for the cell type."""
    return {name: jnp.asarray(self[pattern.format(name)]) for name in self.space.cell_types}

  def batch(self, kind: str, step: int | None = None):
    """(images [B, H, W, C], labels) of 'train' or 'valid', or of a step of the files that have three."""
    if step is None:
      return np.moveaxis(self[f'{kind}_images'], -3, -1), self[f'{kind}_labels'].astype(np.int64)
    suffix = {'train': '', 'valid': '_valid'}[kind]
    return np.moveaxis(self[f'x{suffix}'][step], -3, -1), self[f'y{suffix}'][step].astype(np.int64)

  def moved_norms(self, state: SearchState) -> np.ndarray:
    """‖w − start‖ of each weight, in the order of the official names."""
    before, now = (interop.supernet_state_dict(v, self.space) for v in (self.variables(), state.variables))
    return np.array([np.linalg.norm(now[name] - before[name]) for name in sorted(now) if 'running' not in name])


def hyperparameters(**changes) -> Hyperparameters:
  """Hyperparameters as float64 scalars, so that one compiled step serves all of a test."""
  return jax.tree.map(np.float64, Hyperparameters(**changes))


def alpha_gradient(state: SearchState, start: SearchState):
  """The gradient in (α, edge logits) of the first step, from the first moment of Adam without the decay."""
  moment = optax.tree.get(state.alpha_optimizer_state, 'mu')
  return jax.tree.map(lambda m, a: m / 0.5 - 1e-3 * a, moment, start.architecture)


def agree_on_norm(method, state, before, expected):
  """Compares the norm of the gradient in the weights, which both programs clip at 5, with a recorded norm."""
  new, old = (optax.tree.get(s.weight_optimizer_state, 'trace') for s in (state, before))
  clipped = jax.tree.map(lambda new, old, w: new - 0.9 * old - 3e-4 * w, new, old, before.params)
  agree(method, 'norm of the clipped gradient', optax.tree.norm(clipped), expected * min(1, 5 / (expected + 1e-6)))


def derived(space, betas):
  """(column of α, source node) of the kept edges, [2 cell types, 8, 2], as the golden files have them."""
  cells = []
  for name, cell in zip(space.cell_types, space.derive(betas).cells, strict=True):
    kept = []
    for target, node in enumerate(cell.nodes, start=2):
      for operation, source in node:
        candidates = space.candidates(name)[space.edges.index((target, source))]
        kept.append((candidates.index(operation), source))
    cells.append(kept)
  return np.array(cells)


def sort_nodes(cells):
  """Orders the two edges of each node by their source."""
  pairs = np.asarray(cells).reshape(-1, 2, 2)
  return [sorted(map(tuple, pair)) for pair in pairs.tolist()]


def record(seen: list, array):
  """Appends a float64 array of a compiled function to `seen`. A callback cannot get 64-bit numbers, so it gets bits."""
  bits = jax.lax.bitcast_convert_type(array, jnp.uint32)
  jax.debug.callback(lambda bits: seen.append(np.array(bits).view(np.float64)[..., 0]), bits, ordered=True)


def start_of(golden, prefix='before/', **optimizers):
  return SearchState.create(golden.variables(prefix), golden.alphas('alpha_before'), **optimizers)


def agree_on_weights(method, golden, state, prefix='after/', tolerance=1e-12, form='', undrawn_factor=None):
  """Compares the weights that the official program moved. `undrawn_factor` is what the others were multiplied by."""
  ours = interop.supernet_state_dict(state.variables, golden.space)
  theirs, before = golden.state_dict(prefix), golden.state_dict('before/')
  moved = [name for name in theirs if np.any(theirs[name] != before[name])]
  assert moved
  pairs = [(ours[name].ravel(), theirs[name].ravel()) for name in moved]
  agree(method, f'weights after a step{form}', *map(np.concatenate, zip(*pairs, strict=True)), tolerance)
  others = [name for name in before.keys() - set(moved) if 'running' not in name]
  assert bool(others) == bool(undrawn_factor)
  for name in others:
    np.testing.assert_allclose(ours[name], undrawn_factor * before[name], rtol=1e-14)

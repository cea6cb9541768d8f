"""Exact states, and metrics.jsonl up to them, on disk: Orbax's CheckpointManager, with a SHA-256 seal beside each step.

Orbax writes atomically and asynchronously, but restores flipped bits without a
word; the seals notice them.
"""

import errno
import hashlib
import json
import os
import pathlib
import re
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from beta_darts_jax.errors import InputError
from beta_darts_jax.runtime.processes import is_process_zero, run_on_process_zero
from beta_darts_jax.runtime.workdir import write_json


def fingerprint(folder: pathlib.Path) -> dict[str, str]:
  """SHA-256 of every file below `folder`."""
  files = sorted(f for f in folder.rglob('*') if f.is_file())
  return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


class Checkpoints:
  """The checkpoints of a run in `workdir/checkpoints`, seals in `workdir/seals`; the newest `keep` stay.

  With several processes all of them call every method, and share the folder; process 0 seals.

  Raises:
    InputError: the checkpoints there are of an older version of the program.
  """

  def __init__(self, workdir: pathlib.Path, keep: int = 2):
    self._folder = (workdir / 'checkpoints').absolute()
    self._seals = (workdir / 'seals').absolute()
    run_on_process_zero(self._drop_damaged)
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
    self._manager = ocp.CheckpointManager(self._folder, options=options)

  def _drop_damaged(self):
    """Before Orbax looks: steps whose bytes are not those that were sealed go, with a word about it."""
    steps = [int(f.name) for f in self._folder.iterdir() if f.name.isdigit()] if self._folder.is_dir() else []
    if any((self._folder / str(step) / 'default').is_dir() for step in steps):
      raise InputError(
        f'{self._folder} is of an older version of this program, which can go on with it: choose another --workdir'
      )
    self._seals.mkdir(parents=True, exist_ok=True)
    for step in sorted(steps):
      seal = self._seals / f'{step}.json'
      if not seal.is_file():
        continue  # finalised by an atomic rename, killed before sealing
      try:
        intact = json.loads(seal.read_text()) == fingerprint(self._folder / str(step))
      except (ValueError, FileNotFoundError):
        intact = False
      if not intact:
        logging.warning('checkpoint %d is damaged and not used', step)
        shutil.rmtree(self._folder / str(step))
        seal.unlink()

  def seal(self) -> None:
    """Seals what has been saved, without waiting for a save under way: call it often."""
    if jax.process_count() == 1 and not self._manager.is_saving_in_progress():
      self._seal()

  def _seal(self):
    self._manager.wait_until_finished()
    steps = self._manager.all_steps()
    for step in steps if is_process_zero() else ():
      if not (self._seals / f'{step}.json').is_file():
        write_json(self._seals / f'{step}.json', fingerprint(self._folder / str(step)))
    for seal in self._seals.glob('*.json') if is_process_zero() else ():
      if seal.stem.isdigit() and int(seal.stem) not in steps:
        seal.unlink()

  def save(self, step: int, state, metrics: str = '') -> None:
    """Begins to save `state` and the text of metrics.jsonl as `step`; a step that is there already stays as it is.

    Raises:
      OSError: ENOSPC, before anything is written, where the disk has no room for it.
    """
    self._seal()
    if step not in self._manager.all_steps():
      room = 2 * sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + 2 * len(metrics) + 2**20  # (Orbax's own)
      if shutil.disk_usage(self._folder).free < room:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder))
      parts = {'state': ocp.args.StandardSave(state), 'metrics': ocp.args.JsonSave(metrics)}
      self._manager.save(step, args=ocp.args.Composite(**parts))

  def restore(self, state):
    """(the newest intact state, in the shapes, dtypes and shardings of `state`; its metrics.jsonl), None without any.

    Raises:
      InputError: what was saved, undamaged, is not of the tree or the shapes of `state`.
    """
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    for step in sorted(self._manager.all_steps(), reverse=True):
      try:
        parts = {'state': ocp.args.StandardRestore(target), 'metrics': ocp.args.JsonRestore()}
        found = self._manager.restore(step, args=ocp.args.Composite(**parts))
        return found.state, found.metrics
      except Exception as error:  # Orbax's types vary with the kind of damage
        if (self._seals / f'{step}.json').is_file():  # its bytes are what was saved: not damage
          if re.search('tree structures do not match|not compatible with the stored shape', str(error)):
            raise InputError(
              f'{self._folder / str(step)} is of another config or version of this program: choose another --workdir'
            ) from error
          raise
        logging.warning('checkpoint %d cannot be read (%s) and is not used', step, type(error).__name__)
        self._manager.delete(step)
    return None

  def restore_arrays(self):
    """The newest intact state as nested dicts of numpy arrays; None where there is none."""
    steps = self._manager.all_steps()
    if not steps:
      return None
    folder = self._folder / str(max(steps)) / 'state'
    tree = ocp.PyTreeCheckpointHandler().metadata(folder).tree  # a Checkpointer misses a file that no manager writes
    arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    return ocp.PyTreeCheckpointer().restore(folder, restore_args=arrays)

  def close(self) -> None:
    """Waits for the last save and seals it."""
    self._seal()
    self._manager.close()

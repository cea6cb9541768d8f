"""Checkpoints: Orbax saves the exact state and the text of metrics.jsonl; SHA-256 checksums find damaged files.

Orbax writes atomically and asynchronously, but it restores a state with flipped bits without an error.
"""

import hashlib
import json
import pathlib
import shutil
import sys
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from beta_darts_jax.errors import InputError
from beta_darts_jax.runtime.files import write_json
from beta_darts_jax.runtime.processes import is_process_zero, run_on_process_zero


class Restored(NamedTuple):
  """A state, and the text of metrics.jsonl when it was saved."""

  state: Any
  metrics: str


def checksums(folder: pathlib.Path) -> dict[str, str]:
  """Returns the SHA-256 of every file below `folder`: {relative path: hexadecimal digest}."""
  files = sorted(f for f in folder.rglob('*') if f.is_file())
  return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def _warn(message: str) -> None:
  print(f'warning: {message}', file=sys.stderr, flush=True)


def saved_steps(workdir: pathlib.Path) -> list[int]:
  """Returns the steps of the checkpoints of a run, the oldest one first."""
  folder = workdir / 'checkpoints'
  return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()) if folder.is_dir() else []


def is_damaged(workdir: pathlib.Path, step: int) -> bool:
  """Returns whether a checkpoint has not the checksums that were recorded for it.

  Without a record nothing shows that it is damaged: the process may have been killed before it recorded them.
  """
  file = checksum_file(workdir, step)
  if not file.is_file():
    return False
  try:
    return json.loads(file.read_text()) != checksums(workdir / 'checkpoints' / str(step))
  except (ValueError, FileNotFoundError):
    return True


def checksum_file(workdir: pathlib.Path, step: int) -> pathlib.Path:
  """Returns the file with the checksums of the checkpoint of a step."""
  return workdir / 'seals' / f'{step}.json'


def load_arrays(workdir: pathlib.Path) -> dict:
  """Loads the newest state of a run as nested dicts of numpy arrays. It changes no file.

  Raises:
    InputError: there is no checkpoint, or the newest one is missing or damaged. An older one has the weights of another
      step.
  """
  recorded = [int(file.stem) for file in (workdir / 'seals').glob('*.json') if file.stem.isdigit()]
  step = max([*saved_steps(workdir), *recorded], default=None)
  if step is None:
    raise InputError(f'{workdir} has no checkpoint')
  folder = workdir.absolute() / 'checkpoints' / str(step)
  remedy = 'without result.json the command of the run trains again, from the checkpoint before it or from the start'
  if not folder.is_dir():
    raise InputError(f'{folder}, the last checkpoint, is missing: {remedy}')
  if is_damaged(workdir, step):
    raise InputError(f'{folder} is damaged: {remedy}')
  try:
    # ocp.Checkpointer would expect a file that the manager does not write
    tree = ocp.PyTreeCheckpointHandler().metadata(folder / 'state').tree
    arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    return ocp.PyTreeCheckpointer().restore(folder / 'state', restore_args=arrays)
  except Exception as error:  # Orbax raises many types for damaged files
    if checksum_file(workdir, step).is_file():  # the files are intact: the disk or Orbax failed
      raise
    raise InputError(f'{folder} cannot be read ({type(error).__name__}): {remedy}') from None


class Checkpoints:
  """The newest two checkpoints of a run, in `workdir/checkpoints`; the folder `workdir/seals` holds their checksums.

  Several processes share the folders. Each of them calls every method, and process 0 writes the checksums. Opening
  removes damaged checkpoints, with a warning.
  """

  def __init__(self, workdir: pathlib.Path):
    self._workdir = workdir.absolute()
    self._folder = self._workdir / 'checkpoints'
    run_on_process_zero(self._remove_damaged)
    options = ocp.CheckpointManagerOptions(max_to_keep=2, create=True)
    self._manager = ocp.CheckpointManager(self._folder, options=options)

  def _remove_damaged(self):
    (self._workdir / 'seals').mkdir(parents=True, exist_ok=True)
    for step in saved_steps(self._workdir):
      if is_damaged(self._workdir, step):
        _warn(f'checkpoint {step} is damaged and not used')
        shutil.rmtree(self._folder / str(step))
        checksum_file(self._workdir, step).unlink()

  def record_checksums(self) -> None:
    """Records the checksums of finished checkpoints. It never waits, so a loop can call it often."""
    if jax.process_count() == 1 and not self._manager.is_saving_in_progress():
      self._record_checksums()

  def _record_checksums(self):
    self._manager.wait_until_finished()
    if not is_process_zero():
      return
    steps = self._manager.all_steps()
    for step in steps:
      if not checksum_file(self._workdir, step).is_file():
        write_json(checksum_file(self._workdir, step), checksums(self._folder / str(step)))
    for file in (self._workdir / 'seals').glob('*.json'):
      if file.stem.isdigit() and int(file.stem) not in steps:
        file.unlink()

  def save(self, step: int, state, metrics: str = '') -> None:
    """Starts to save `state` and the text of metrics.jsonl as `step`. An existing checkpoint of that step is kept."""
    self._record_checksums()
    if step not in self._manager.all_steps():
      parts = {'state': ocp.args.StandardSave(state), 'metrics': ocp.args.JsonSave(metrics)}
      self._manager.save(step, args=ocp.args.Composite(**parts))

  def restore(self, state) -> Restored | None:
    """Restores the newest intact checkpoint in the structure, dtypes and shardings of `state`; None if there is none.

    Raises:
      InputError: the checkpoint is intact, but its arrays are not those of `state`.
    """
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    parts = {'state': ocp.args.StandardRestore(target), 'metrics': ocp.args.JsonRestore()}
    for step in sorted(self._manager.all_steps(), reverse=True):
      try:
        restored = self._manager.restore(step, args=ocp.args.Composite(**parts))
        return Restored(restored.state, restored.metrics)
      except Exception as error:  # Orbax raises many types for damaged files
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
          raise  # the disk failed, and may be read again later
        # without checksums nothing shows that the files are intact: try an older checkpoint
        if not checksum_file(self._workdir, step).is_file():
          _warn(f'checkpoint {step} cannot be read ({type(error).__name__}) and is not used')
          self._manager.delete(step)
        elif isinstance(error, ValueError):  # the files are intact: they hold other arrays
          raise InputError(
            f'{self._folder / str(step)} was written with another config or version and cannot be resumed: '
            'choose another workdir'
          ) from error
        else:  # the files are intact: the disk or Orbax failed
          raise
    return None

  def close(self) -> None:
    """Waits for the last save and records its checksums."""
    self._record_checksums()
    self._manager.close()

"""The loop that searching and training share: epochs of steps, checkpoints, logs, an exact resume.

A state has `step` (int32) and `sums`, totals over the steps of the epoch so far: scalars, or [M] of M members.
"""

import contextlib
import functools
import math
import threading
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from beta_darts_jax.errors import NonFiniteLoss
from beta_darts_jax.runtime.checkpoint import Checkpoints
from beta_darts_jax.runtime.logs import MetricsFile, Profile, Progress, TensorBoard
from beta_darts_jax.runtime.processes import any_process, is_process_zero
from beta_darts_jax.runtime.workdir import Workdir


def run_epochs(
  state,
  train: Callable,
  rows_of: Callable,
  workdir: Workdir,
  stop: threading.Event,
  *,
  epochs: int,
  steps_per_epoch: int,
  steps_per_dispatch: int,
  images_per_step: int,
  checkpoint_every: int = 0,
  tensorboard: bool = False,
  profile: tuple[int, ...] = (),
  finished: Callable = lambda rows: False,
):
  """Runs to the last epoch, or goes on where an interrupted run stopped.

  Args:
    state: at step 0; what is restored takes its shapes and shardings.
    train: (state, epoch, until) → state at step `until`, or at the first step with a non-finite loss.
    rows_of: (state, epoch, whether each member's state is finite) → what metrics.jsonl says of the epoch, for each
      member, besides the means of `sums` and the times.
    workdir: opened for the run.
    stop: when set, in any process, the state is saved after the steps under way and None is returned.
    epochs: of the whole run.
    steps_per_epoch: steps.
    steps_per_dispatch: steps between two looks at `stop`.
    images_per_step: of a member, for the rate.
    checkpoint_every: steps, besides the end of every epoch; 0 is off.
    tensorboard: also write event files.
    profile: (first step, the one after the last) to trace into the folder `profile`; () is none.
    finished: rows of metrics.jsonl so far → whether to end before the last epoch.

  Returns:
    (the last state, the rows of metrics.jsonl); None when stopped.

  Raises:
    NonFiniteLoss: a loss or a number of the state is no longer finite, in every member; the last good checkpoint stays.
  """
  checkpoints = Checkpoints(workdir.path)
  replicated = NamedSharding(state.step.sharding.mesh, PartitionSpec())
  zeros = jax.jit(
    lambda sums: jax.tree.map(jnp.zeros_like, sums), out_shardings=jax.tree.map(lambda x: x.sharding, state.sums)
  )

  @functools.partial(jax.jit, out_shardings=replicated)
  def look(state):
    of_member = lambda x: jnp.all(jnp.isfinite(x), axis=tuple(range(state.step.ndim, x.ndim)))
    finite = functools.reduce(jnp.logical_and, map(of_member, jax.tree.leaves(state)))
    return tuple(jax.tree.map(jnp.atleast_1d, (state.step, state.sums, finite)))

  state, metrics = checkpoints.restore(state) or (state, '')
  step = int(jax.device_get(look(state)[0])[0])
  members = state.step.size
  say = functools.partial(print, flush=True) if is_process_zero() else lambda *_: None
  if step:
    say(f'going on from step {step} of {epochs * steps_per_epoch}')
  log = MetricsFile(workdir.path / 'metrics.jsonl', metrics)
  writers: list[MetricsFile | TensorBoard] = [log]
  if tensorboard and is_process_zero():
    writers.append(TensorBoard(workdir.path / 'tensorboard', epochs=step // steps_per_epoch))

  def check(values, epoch, finite):
    losses = {name: value for name, value in values.items() if name.endswith('_loss')}
    if not any(finite & np.all([np.isfinite(value) for value in losses.values()], axis=0)):
      listed = ', '.join(f'{name} {value[0]:.4g}' for name, value in losses.items())
      of_members = f' in any of {members} members' if members > 1 else ''
      raise NonFiniteLoss(
        f'the loss is no longer finite{of_members} at epoch {epoch + 1}, step {step} ({listed}); '
        'the same values end there again, smaller learning rates or clip norms may not'
      )

  with contextlib.ExitStack() as stack:
    progress = stack.enter_context(Progress(epochs, steps_per_epoch, step, shows=is_process_zero()))
    profiler = Profile(workdir.path / 'profile', profile if is_process_zero() else ())
    for close in (checkpoints.close, *(writer.close for writer in writers), profiler.close):
      stack.callback(close)
    for epoch in range(step // steps_per_epoch, epochs):
      if step == epoch * steps_per_epoch and finished(log.rows):
        break
      first, end = epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch
      begun, epoch_started = step, time.perf_counter()
      if step == first:
        state = state.replace(sums=zeros(state.sums))

      while step < end:
        profiler.at(step)
        with jax.transfer_guard('disallow'):  # what passes between host and devices is meant to
          state = train(state, epoch, next_stop(step, end, steps_per_dispatch, checkpoint_every, profile))
          steps, sums, finite = jax.device_get(look(state))
        step = int(steps[0])
        profiler.at(step)
        means = {name: total / (step - first) for name, total in sums.items()}
        check(means, epoch, finite)
        checkpoints.record_checksums()
        rate = members * images_per_step * (step - begun) / (time.perf_counter() - epoch_started)
        overall = {name: float(np.mean(values[finite])) for name, values in means.items()}
        progress.steps(epoch, step, overall | {'images_per_second': rate})
        stopped = any_process(stop.is_set())
        if step < end and (stopped or (checkpoint_every and step % checkpoint_every == 0)):
          checkpoints.save(step, state, log.text)
          if stopped:
            return None

      rows = [
        {'epoch': epoch} | {name: float(values[k]) for name, values in means.items()} | row
        for k, row in enumerate(rows_of(state, epoch, finite))
      ]
      check({name: [row[name] for row in rows] for name in rows[0] if name.endswith('_loss')}, epoch, finite)
      times = {'seconds': round(time.perf_counter() - epoch_started, 3), 'images_per_second': round(rate, 1)}
      rows = [_without_nan(row) | times for row in rows]
      for writer in writers:  # before the checkpoint: a resumed run cuts them back to it
        writer.append(rows)
      progress.epoch(rows)
      checkpoints.save(step, state, log.text)
      if any_process(stop.is_set()):
        return None
  return state, log.rows


def _without_nan(row):
  """`row` with None for what is not finite, which JSON does not know, in lists and dicts too."""
  if isinstance(row, dict):
    return {name: _without_nan(value) for name, value in row.items()}
  if isinstance(row, list):
    return [_without_nan(value) for value in row]
  return None if isinstance(row, float) and not math.isfinite(row) else row


def next_stop(step: int, end: int, dispatch: int, every: int, others: tuple[int, ...] = ()) -> int:
  """The step to run to: a chunk, cut off at the epoch's end, at multiples of `every` (0: none) and at `others`."""
  stops = [step + dispatch, end, *(other for other in others if other > step)]
  stops += [(step // every + 1) * every] if every else []
  return min(stops)

"""The loop that searching and training share: epochs of steps, checkpoints, logs, an exact resume.

A state has `step` (int32) and `sums`, totals over the steps of the epoch so far.
"""

import contextlib
import math
import threading
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from beta_darts_jax.checkpoint import Checkpoints
from beta_darts_jax.errors import NonFiniteLoss
from beta_darts_jax.metrics import MetricsFile, Progress, TensorBoard
from beta_darts_jax.workdir import Workdir


def run_epochs(
  state,
  train: Callable,
  row_of: Callable,
  workdir: Workdir,
  stop: threading.Event,
  *,
  epochs: int,
  steps_per_epoch: int,
  steps_per_dispatch: int,
  images_per_step: int,
  checkpoint_every: int = 0,
  tensorboard: bool = False,
  shown: Callable = lambda state: {},
):
  """Runs to the last epoch, or goes on where an interrupted run stopped.

  Args:
    state: at step 0; what is restored takes its shapes and shardings.
    train: (state, epoch, until) → state at step `until`, or at the first step with a non-finite loss.
    row_of: (state, epoch) → what metrics.jsonl says of the epoch besides the means of `sums` and the times.
    workdir: opened for the run.
    stop: when set, the state is saved after the steps under way and None is returned.
    epochs: of the whole run.
    steps_per_epoch: steps.
    steps_per_dispatch: steps between two looks at `stop`.
    images_per_step: for the rate.
    checkpoint_every: steps, besides the end of every epoch; 0 is off.
    tensorboard: also write event files.
    shown: state → more for the progress bar.

  Returns:
    (the last state, the rows of metrics.jsonl); None when stopped.

  Raises:
    NonFiniteLoss: a loss or a number of the state is no longer finite; the last good checkpoint stays.
  """
  checkpoints = Checkpoints(workdir.path)
  zeros = jax.device_get(jax.tree.map(jnp.zeros_like, state.sums))
  is_finite = jax.jit(lambda state: jnp.all(jnp.array([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(state)])))
  state = checkpoints.restore(state) or state
  step = int(state.step)
  if step:
    print(f'going on from step {step} of {epochs * steps_per_epoch}', flush=True)
  log = MetricsFile(workdir.path / 'metrics.jsonl', epochs=step // steps_per_epoch)
  writers = [log]
  if tensorboard:
    writers.append(TensorBoard(workdir.path / 'tensorboard', epochs=len(log.rows)))

  def check(values, epoch, finite):
    losses = {name: value for name, value in values.items() if name.endswith('_loss')}
    if not (finite and all(map(math.isfinite, losses.values()))):
      listed = ', '.join(f'{name} {value:.4g}' for name, value in losses.items())
      raise NonFiniteLoss(
        f'the loss is no longer finite at epoch {epoch + 1}, step {step} ({listed}); '
        f'{workdir.path} keeps the checkpoints before it'
      )

  with contextlib.ExitStack() as stack:
    progress = stack.enter_context(Progress(epochs, steps_per_epoch))
    for closable in (checkpoints, *writers):
      stack.enter_context(contextlib.closing(closable))
    for epoch in range(step // steps_per_epoch, epochs):
      first, end = epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch
      begun, epoch_started = step, time.perf_counter()
      if step == first:
        state = state.replace(sums=jax.device_put(zeros, state.step.sharding))

      while step < end:
        state = train(state, epoch, next_stop(step, end, steps_per_dispatch, checkpoint_every))
        step = int(state.step)
        means = {name: float(total) / (step - first) for name, total in jax.device_get(state.sums).items()}
        check(means, epoch, bool(is_finite(state)))
        checkpoints.seal()
        rate = images_per_step * (step - begun) / (time.perf_counter() - epoch_started)
        progress.steps(epoch, step, means | {'images_per_second': rate} | shown(state))
        if step < end and (stop.is_set() or (checkpoint_every and step % checkpoint_every == 0)):
          checkpoints.save(step, state)
          if stop.is_set():
            return None

      row = {'epoch': epoch, **means, **row_of(state, epoch)}
      check(row, epoch, True)
      row |= {'seconds': round(time.perf_counter() - epoch_started, 3), 'images_per_second': round(rate, 1)}
      for writer in writers:  # before the checkpoint: a resumed run cuts the file back to it
        writer.append(row)
      progress.epoch(row)
      checkpoints.save(step, state)
      if stop.is_set():
        return None
  return state, log.rows


def next_stop(step: int, end: int, dispatch: int, every: int) -> int:
  """The step to run to: a chunk, cut off at the epoch's end and at multiples of `every` (0: none)."""
  stops = [step + dispatch, end] + ([(step // every + 1) * every] if every else [])
  return min(stops)

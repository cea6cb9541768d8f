"""The context of one run: restore, train chunk by chunk, save, stop, log.

The state of a run is a tree of arrays with two attributes: `step`, [] or [M] int32 for M members, and `sums`, a dict of
totals over the steps of the epoch so far, of the same shape.
"""

import contextlib
import copy
import dataclasses
import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from beta_darts_jax.errors import NonFiniteLoss, Stopped
from beta_darts_jax.runtime.checkpoint import Checkpoints
from beta_darts_jax.runtime.devices import named_sharding, put
from beta_darts_jax.runtime.files import replace_non_finite
from beta_darts_jax.runtime.logs import MetricsFile, Profile, Progress, Row
from beta_darts_jax.runtime.processes import any_process, is_process_zero
from beta_darts_jax.runtime.workdir import Workdir

STOPPING = b'Stopping after the current step. Press Ctrl-C again to quit without saving.\n'


@dataclasses.dataclass(frozen=True)
class SessionOptions:
  """The sizes of a run, and what it saves and logs.

  Attributes:
    epochs: number of epochs of the whole run.
    steps_per_epoch: steps.
    steps_per_dispatch: steps of one call of the training program. Signals and losses are checked between calls.
    images_per_step: images that one member trains on in a step, for the rate.
    checkpoint_every: steps between checkpoints within an epoch; 0 saves at the end of each epoch only.
    profile: (first step, the step after the last one) of a trace; () for none.
  """

  epochs: int
  steps_per_epoch: int
  steps_per_dispatch: int
  images_per_step: int
  checkpoint_every: int = 0
  profile: tuple[int, ...] = ()


class Inspection(NamedTuple):
  """What the host reads of a state of M members.

  Attributes:
    step: [M] int32.
    sums: {name: [M]}.
    finite: bool [M], whether every number of the member's state is finite.
  """

  step: np.ndarray
  sums: dict[str, np.ndarray]
  finite: np.ndarray


def make_inspect(mesh: jax.sharding.Mesh):
  """Builds `inspect(state) -> Inspection`; the state lies on `mesh`."""

  @functools.partial(jax.jit, out_shardings=named_sharding(mesh))
  def inspect_on_device(state):
    def is_finite(x):
      return jnp.all(jnp.isfinite(x), axis=tuple(range(state.step.ndim, x.ndim)))

    finite = functools.reduce(jnp.logical_and, map(is_finite, jax.tree.leaves(state)))
    return jax.tree.map(jnp.atleast_1d, Inspection(state.step, state.sums, finite))

  def inspect(state) -> Inspection:
    return jax.device_get(inspect_on_device(state))

  return inspect


@contextlib.contextmanager
def catch_stop_signals() -> Iterator[threading.Event]:
  """Yields an event that the first SIGINT or SIGTERM sets. A second signal has the system's default action.

  A signal that the process ignores stays ignored. Outside the main thread no signal is caught.
  """
  stop = threading.Event()

  def handle(number, frame):
    del frame
    for caught in before:
      signal.signal(caught, signal.SIG_DFL)
    stop.set()
    with contextlib.suppress(OSError):
      os.write(2, STOPPING)

  is_main_thread = threading.current_thread() is threading.main_thread()
  numbers = (signal.SIGINT, signal.SIGTERM) if is_main_thread else ()
  caught = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
  before = {number: signal.getsignal(number) for number in caught}
  for number in caught:
    signal.signal(number, handle)
  try:
    yield stop
  finally:
    for number, handler in before.items():
      signal.signal(number, handler or signal.SIG_DFL)  # None: a handler that was not set from Python


class Session:
  """Restores, saves, stops and logs one run. Use it as a context around the epochs:

    with Session(workdir, options, mesh) as session:
      state = session.start(shapes, make_state)
      for epoch in session.epochs():
        state = session.start_epoch(state, epoch)
        for until in session.chunks(epoch):
          state = …  # train to step `until`
          session.after_chunk(state)
        session.after_epoch(state, rows)

  Attributes:
    step: steps taken.
    rows: the rows of metrics.jsonl so far.
    finite: bool [M], whether the state of each member was finite after the last chunk.
  """

  def __init__(self, workdir: Workdir, options: SessionOptions, mesh: jax.sharding.Mesh):
    self._path, self._loggers, self._options = workdir.path, workdir.loggers, options
    self._inspect = make_inspect(mesh)
    self._is_catching = False
    self.step = 0

  def __enter__(self):
    with contextlib.ExitStack() as stack:
      self._signals = stack.enter_context(contextlib.ExitStack())  # ends last
      self._stop = threading.Event()
      self._checkpoints = Checkpoints(self._path)
      stack.callback(self._checkpoints.close)
      self._exit = stack.pop_all()
    return self

  def __exit__(self, kind, error, traceback):
    self._exit.__exit__(kind, error, traceback)
    if kind is None and any_process(self._stop.is_set()):  # a signal came while the last checkpoint was saved
      raise Stopped

  @property
  def rows(self) -> list[Row]:
    return self._metrics.rows

  def start(self, shapes, make_state: Callable):
    """Opens the logs. Returns the newest checkpoint or, without one, make_state().

    `shapes` has the shapes, dtypes and shardings of the state.
    """
    restored = self._checkpoints.restore(shapes)
    state, metrics = restored or (make_state(), '')
    options, writes = self._options, is_process_zero()
    self.step = int(self._inspect(state).step[0])
    if self.step and writes:
      print(f'resuming from step {self.step} of {options.epochs * options.steps_per_epoch}', flush=True)
    self._metrics = MetricsFile(self._path / 'metrics.jsonl', metrics)
    self._exit.callback(self._metrics.close)
    self._profile = Profile(self._path / 'profile', options.profile if writes else ())
    self._exit.callback(self._profile.close)
    self._progress = self._exit.enter_context(
      Progress(options.epochs, options.steps_per_epoch, self.step, shows=writes)
    )
    return state

  def epochs(self) -> Iterator[int]:
    """Yields the epochs that are not finished yet."""
    yield from range(self.step // self._options.steps_per_epoch, self._options.epochs)

  def start_epoch(self, state, epoch: int):
    """Returns the state with `sums` at 0 if no step of the epoch has been taken yet."""
    if self.step > epoch * self._options.steps_per_epoch:
      return state
    return state.replace(sums=jax.tree.map(lambda x: put(np.zeros(x.shape, x.dtype), x.sharding), state.sums))

  def chunks(self, epoch: int) -> Iterator[int]:
    """Yields the step up to which the caller trains next, until the end of the epoch."""
    options = self._options
    if not self._is_catching:  # only now: until here a signal ends the process at once
      self._stop, self._is_catching = self._signals.enter_context(catch_stop_signals()), True
    end = (epoch + 1) * options.steps_per_epoch
    self._epoch, self._first_step, self._started = epoch, self.step, time.perf_counter()
    while self.step < end:
      self._profile.at(self.step)
      yield next_stop(self.step, end, options.steps_per_dispatch, options.checkpoint_every, options.profile)

  def after_chunk(self, state) -> None:
    """Checks the state, shows the progress and saves if it is time.

    Raises:
      NonFiniteLoss: every member has a NaN or an infinity. The last good checkpoint stays.
      Stopped: a signal came, in any process. The state is saved.
    """
    with jax.transfer_guard('disallow'):
      steps, sums, self.finite = self._inspect(state)
    self.step = int(steps[0])
    self._profile.at(self.step)
    steps_in_epoch = self.step - self._epoch * self._options.steps_per_epoch
    self._means = {name: total / steps_in_epoch for name, total in sums.items()}
    self._require_finite(self._means)
    self._checkpoints.record_checksums()
    self._rate = self._images_per_second(len(steps))
    overall = {name: float(np.mean(values[self.finite])) for name, values in self._means.items()}
    self._progress.steps(self._epoch, self.step, overall | {'images_per_second': self._rate})
    every = self._options.checkpoint_every
    is_within_epoch = steps_in_epoch < self._options.steps_per_epoch
    stopped = any_process(self._stop.is_set())
    if is_within_epoch and (stopped or (every and self.step % every == 0)):
      self._checkpoints.save(self.step, state, self._metrics.text)
    if is_within_epoch and stopped:
      raise Stopped

  def after_epoch(self, state, rows: list[Row], note: str = '') -> None:
    """Logs the rows of the epoch, one per member, and saves the state. The line of the epoch has `note`.

    The rows get the epoch, the means of `sums`, seconds and images per second.

    Raises:
      NonFiniteLoss, Stopped: as `after_chunk`.
    """
    losses = {name: np.array([row.get(name) for row in rows]) for name in rows[0] if name.endswith('_loss')}
    self._require_finite(losses)
    times = {'seconds': round(time.perf_counter() - self._started, 3), 'images_per_second': round(self._rate, 1)}
    logged: list[Row] = []
    for k, row in enumerate(rows):
      means = {name: float(values[k]) for name, values in self._means.items()}
      logged.append(replace_non_finite({'epoch': self._epoch, **means, **row}) | times)
    self._metrics.append(logged)  # before the checkpoint: a resumed run cuts the file back to its checkpoint
    self._checkpoints.save(self.step, state, self._metrics.text)  # before the loggers: one that fails loses no epoch
    for logger in self._loggers:
      for row in logged:
        logger.row(copy.deepcopy(row))
    self._progress.epoch(logged, note)
    if any_process(self._stop.is_set()):
      raise Stopped

  def _images_per_second(self, members):
    seconds = time.perf_counter() - self._started
    return members * self._options.images_per_step * (self.step - self._first_step) / seconds

  def _require_finite(self, values):
    losses = {name: value for name, value in values.items() if name.endswith('_loss')}
    if not any(self.finite & np.all([np.isfinite(value) for value in losses.values()], axis=0)):
      listed = ', '.join(f'{name} {value[0]:.4g}' for name, value in losses.items())
      members = f' in all {len(self.finite)} members' if len(self.finite) > 1 else ''
      raise NonFiniteLoss(
        f'the loss is no longer finite{members} in epoch {self._epoch + 1}, step {self.step} ({listed}). '
        'Try a smaller learning rate or clip norm; a run with the same settings ends at the same step'
      )


def next_stop(step: int, end: int, dispatch: int, every: int, others: tuple[int, ...] = ()) -> int:
  """Returns the step at which the next call of the training program ends.

  That is after `dispatch` steps, but at the latest at `end`, at the next multiple of `every` (0: none) and at the next
  of `others`.
  """
  stops = [step + dispatch, end, *(other for other in others if other > step)]
  stops += [(step // every + 1) * every] if every else []
  return min(stops)

"""The numbers of a run: metrics.jsonl, other loggers, profiler traces and the terminal."""

import contextlib
import json
import os
import pathlib
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from typing import IO, Any, Protocol, Self, TypedDict

import jax
from tqdm import tqdm

from beta_darts_jax.runtime.files import write_text
from beta_darts_jax.runtime.processes import is_process_zero

SECONDS_BETWEEN_LINES = 300  # without a terminal
SECONDS_TO_FIRST_LINE = 60
SECONDS_BETWEEN_SIGNS = 30  # while programs compile


class Row(TypedDict, total=False):
  """One line of metrics.jsonl: one epoch of a search or a retraining; of a population, one epoch of one member.

  Losses are means in nats per image, accuracies are 0 … 1. Search steps see two batches, one of each half of the
  training images: the weights are trained on the first half, α on the second. A number that is not finite is None.
  Arrays are nested lists: E edges, O operations.
  """

  # ---- every run ----
  epoch: int  # from 0
  train_loss: float | None  # of the weights' batches, before each step
  train_accuracy: float | None
  learning_rate: float  # of the weights: in a search during this epoch, in a retraining at its last step
  seconds: float  # of the epoch, evaluation included; of a resumed epoch, since the run was resumed
  images_per_second: float  # of training, all members together; a search step counts both batches

  # ---- a search of a population ----
  member: int  # from 0
  seed: int

  # ---- a search ----
  alpha_loss: float | None  # of α's batches, without regularizers
  alpha_accuracy: float | None
  beta_decay: float | None  # mean of the Beta-Decay loss over the steps, not multiplied by λ
  beta_decay_weight: float  # λ in this epoch
  regularizer_weights: dict[str, float]  # λ of `cost` and of regularizers of your own; absent without them
  valid_loss: float | None  # of the supernet on images of α's half, after the epoch
  valid_accuracy: float | None
  genotype: str | None  # the cell of the mean β; None, like skips and betas, if the member has diverged
  skips: int | None  # skip connections of the normal cell
  betas: dict[str, list[list[float]]] | None  # mean β: {cell type: [E, O]}
  diagnostics: 'Diagnostics'  # absent if the member has diverged
  benchmark: dict[str, Any]  # NasBench201.summary(genotype), on a data set of the benchmark
  cost: 'Cost'  # in a search with the regularizer `cost`; absent if the member has diverged

  # ---- a retraining ----
  test_loss: float | None  # on all test images, after the epoch
  test_accuracy: float | None
  test_top5_accuracy: float | None
  drop_path_rate: float  # in this epoch


class Cost(TypedDict):
  """What all cells of the supernet's size cost, without the rest of the network."""

  unit: str  # multiply_adds of one image, parameters, or milliseconds
  expected: float  # Σ β·c over all edges, for the mean of β without edge weights
  derived: float  # of the cell
  largest: float  # of the cell with the most expensive operation on every edge


class Diagnostics(TypedDict, total=False):
  """The row's `diagnostics`. The first three are there in every epoch, the others in every n-th."""

  shares: dict[str, float]  # share of the cell's operations that are 'skip', 'none' or 'pool', 0 … 1
  entropies: dict[str, list[float]]  # of β on each edge, nats: {cell type: [E]}
  variances: dict[str, list[float]]  # of β on each edge over its operations: {cell type: [E]}
  continuous_accuracy: float  # of the supernet with the mean β
  discrete_accuracy: float  # of the supernet restricted to the cell
  eigenvalues: list[float]  # up to five dominant ones of ∇²_α L_valid, the largest magnitude first
  theta: dict[str, list[list[float]]]  # what the regularizers do to softmax(α) in a step: {cell type: [E, O]}
  kendall_tau: dict[str, 'Correlation']  # of 'one_shot' and 'parameters' with the benchmark's test accuracies


class Correlation(TypedDict):
  """Kendall's τ with its 95 % interval."""

  tau: float | None  # None: all values of one side are equal
  low: float | None
  high: float | None
  n: int  # cells


class MetricsFile:
  """Writes metrics.jsonl. An epoch's rows reach the disk before its checkpoint is saved.

  Process 0 writes the file. All processes keep its `text` and `rows`.

  Args:
    path: the file. `text` replaces its content.
    text: the file's content at the checkpoint from which the run resumes.
  """

  def __init__(self, path: pathlib.Path, text: str = ''):
    self.text = text
    self.rows: list[Row] = [json.loads(line) for line in text.splitlines()]
    self._file: IO[str] | None = None
    if is_process_zero():
      write_text(path, text)
      self._file = open(path, 'a')  # noqa: SIM115 (closed by close())

  def append(self, rows: list[Row]) -> None:
    """Appends rows and waits until they are on disk."""
    lines = ''.join(json.dumps(row) + '\n' for row in rows)
    self.rows += rows
    self.text += lines
    if self._file:
      self._file.write(lines)
      self._file.flush()
      os.fsync(self._file.fileno())

  def close(self) -> None:
    if self._file:
      self._file.close()


class Logger(Protocol):
  """What logs a run besides metrics.jsonl. Only process 0 calls it. All values are JSON.

  A logger may also have a method `close()`. The run calls it at its end, also if it is stopped or fails.
  """

  def config(self, values: dict) -> None:
    """Gets config.json and `workdir`, the folder of the run, when the run starts or resumes."""

  def row(self, values: Row) -> None:
    """Gets a line of metrics.jsonl. A resumed run logs the epochs after its checkpoint again."""

  def result(self, values: dict) -> None:
    """Gets result.json when the run is finished."""


class Profile:
  """Traces some steps with jax.profiler; ui.perfetto.dev opens the resulting perfetto_trace.json.gz.

  `steps` is (first step, one past the last); () traces nothing.
  """

  def __init__(self, folder: pathlib.Path, steps: tuple[int, ...]):
    self._folder, self._steps, self._is_tracing = folder, range(*steps) if steps else (), False

  def at(self, step: int) -> None:
    """Starts the trace before its first step. Stops it after its last step. `step` is the next step."""
    if step not in self._steps:
      self.close()
    elif not self._is_tracing:
      jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
      self._is_tracing = True

  def close(self) -> None:
    """Stops the trace if it is running."""
    if self._is_tracing:
      jax.profiler.stop_trace()
      self._is_tracing = False


class Progress:
  """Prints one line an epoch and, on a terminal, shows a bar below the lines. Use it as a context.

  Elsewhere it prints a line within an epoch after a minute, then every five minutes.

  The run has `epochs` epochs of `steps` steps; this process starts after `done` steps. If `shows` is False, nothing is
  printed.
  """

  def __init__(self, epochs: int, steps: int, done: int = 0, shows: bool = True):
    self._epochs, self._shows = epochs, shows
    disable = None if shows else True  # None: no bar unless stderr is a terminal
    self._bar = tqdm(total=epochs * steps, initial=done, unit='step', leave=False, dynamic_ncols=True, disable=disable)
    self._steps, self._next_line = epochs * steps, time.monotonic() + SECONDS_TO_FIRST_LINE
    self._first_call: tuple[float, int] | None = None  # its time and step; what came before includes the compilation

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *error) -> None:
    self._bar.close()

  def steps(self, epoch: int, step: int, values: dict[str, float]) -> None:
    """Moves the bar to `step`. `values` has train_loss, train_accuracy and images_per_second."""
    self._bar.set_description(f'epoch {epoch + 1}/{self._epochs}', refresh=False)
    self._bar.set_postfix_str(
      f'{_format_losses("train", values)}  {values["images_per_second"]:.0f} images/s', refresh=False
    )
    self._bar.update(step - self._bar.n)
    now = time.monotonic()
    if self._first_call is None:
      self._first_call = now, step
    first_time, first_step = self._first_call
    if self._shows and self._bar.disable and now > self._next_line and step > first_step:
      seconds_left = (self._steps - step) * (now - first_time) / (step - first_step)
      losses = _format_losses('train', values)
      self._print(f'step {step:,} of {self._steps:,}  {losses}  {tqdm.format_interval(seconds_left)} left')

  def epoch(self, rows: list[Row], note: str = '') -> None:
    """Prints a line about the rows of an epoch: losses, accuracies, `note`, and the time that the other epochs need.

    The numbers of a population are means over the members that have not diverged. More lines of `note` follow.
    """
    if not self._shows:
      return
    first, *others = note.split('\n')
    epochs_left = self._epochs - rows[0]['epoch'] - 1
    parts = [f'epoch {rows[0]["epoch"] + 1}/{self._epochs}', *_format_means(rows), first]
    parts += [f'{tqdm.format_interval(epochs_left * rows[0]["seconds"])} left'] if epochs_left else []
    self._print('\n'.join(['  '.join(part for part in parts if part), *others]))

  def _print(self, text: str) -> None:
    tqdm.write(text, file=sys.stdout)
    sys.stdout.flush()
    self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES


@contextlib.contextmanager
def compiling() -> Iterator[None]:
  """Prints that the enclosed code compiles, how long it has taken every half minute, and the seconds at the end."""
  started, ended = time.perf_counter(), threading.Event()

  def print_seconds():
    while not ended.wait(SECONDS_BETWEEN_SIGNS):
      print(f'compiling, {time.perf_counter() - started:.0f} s so far', flush=True)

  print('compiling', flush=True)
  thread = threading.Thread(target=print_seconds, daemon=True)
  thread.start()
  try:
    yield
  finally:
    ended.set()
    thread.join()
  print(f'compiled in {time.perf_counter() - started:.0f} s', flush=True)


class TimedLines:
  """A stream that writes the time of day in front of each line."""

  def __init__(self, stream: IO[str]):
    self._stream, self._is_at_start = stream, True

  def write(self, text: str) -> int:
    for line in text.splitlines(keepends=True):
      starts = self._is_at_start and line.strip()
      self._stream.write(f'{time.strftime("%H:%M:%S")} {line}' if starts else line)
      self._is_at_start = line.endswith('\n')
    return len(text)

  def __getattr__(self, name: str) -> Any:
    return getattr(self._stream, name)


def _format_means(rows: list[Row]) -> list[str]:
  images = 'valid' if 'valid_loss' in rows[0] else 'test'
  names = ('train_loss', 'train_accuracy', f'{images}_loss', f'{images}_accuracy')
  finite: list[dict] = [dict(row) for row in rows if all(row.get(name) is not None for name in names)]
  means = {name: statistics.fmean(row[name] for row in finite) for name in names}
  parts = [_format_losses(part, means) for part in ('train', images)]
  return [*parts, f'mean of {len(finite)} members'] if 'member' in rows[0] else parts


def _format_losses(part: str, values: dict[str, float]) -> str:
  return f'{part} loss {values[f"{part}_loss"]:.3f} {100 * values[f"{part}_accuracy"]:.1f} %'

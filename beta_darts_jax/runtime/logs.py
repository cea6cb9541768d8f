"""Where the numbers of a run go: files, TensorBoard, a terminal."""

import json
import os
import pathlib
import statistics
import sys
from typing import IO

import jax
from absl import logging

from beta_darts_jax.runtime.processes import is_process_zero


class MetricsFile:
  """metrics.jsonl: one line an epoch, of a population one for each member; on disk before the epoch's checkpoint is.

  Process 0 writes it, the others know its text and rows.
  """

  def __init__(self, path: pathlib.Path, text: str = ''):
    """Writes the file anew with the `text` that a checkpoint kept, whatever it held."""
    self.text = text
    self.rows: list[dict] = [json.loads(line) for line in text.splitlines()]
    self._file: IO[str] | None = None
    if is_process_zero():
      temporary = path.with_name(f'.{path.name}.tmp')
      temporary.write_text(text)
      os.replace(temporary, path)
      self._file = open(path, 'a')  # noqa: SIM115 (closed by close())

  def append(self, rows: list[dict]) -> None:
    """Adds lines and waits until the disk has them."""
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


class TensorBoard:
  """Event files of the numbers of each row, by tensorboardX (no TensorFlow)."""

  def __init__(self, folder: pathlib.Path, epochs: int):
    """Opens new files for the epochs after the first `epochs`; what older files say of later ones is void."""
    from tensorboardX import SummaryWriter

    self._writer = SummaryWriter(str(folder), purge_step=epochs)

  def append(self, rows: list[dict]) -> None:
    """Adds the numbers and the genotype of each row; those of members are named member_K/…"""
    for row in rows:
      prefix = f'member_{row["member"]}/' if 'member' in row else ''
      for name, value in row.items():
        if isinstance(value, (int, float)) and name not in ('epoch', 'member', 'seed'):
          self._writer.add_scalar(prefix + name, value, row['epoch'])
      if row.get('genotype'):
        self._writer.add_text(f'{prefix}genotype', f'`{row["genotype"]}`', row['epoch'])
    self._writer.flush()

  def close(self) -> None:
    self._writer.close()


class Profile:
  """A trace of some steps in `folder`, by jax.profiler: ui.perfetto.dev opens its perfetto_trace.json.gz.

  `steps` are (first, the one after the last); () is none.
  """

  def __init__(self, folder: pathlib.Path, steps: tuple[int, ...]):
    self._folder, self._steps, self._traces = folder, range(*steps) if steps else (), False

  def at(self, step: int) -> None:
    """Starts and ends the trace; `step` is the one that comes next."""
    if (step in self._steps) != self._traces:
      if self._traces:
        jax.profiler.stop_trace()
      else:
        jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
      self._traces = not self._traces

  def close(self) -> None:
    """Ends the trace where the run ends."""
    self.at(-1)


class Progress:
  """One line an epoch, on a terminal above a bar; nothing unless it `shows`. Use as a context.

  Args:
    epochs, steps: of the run, and of an epoch.
    done: steps before this process.
    shows: whether anything is printed.
  """

  def __init__(self, epochs: int, steps: int, done: int = 0, shows: bool = True):
    self._epochs, self._steps, self._done, self._shows = epochs, steps, done, shows
    self._bar = None

  def __enter__(self):
    if self._shows and sys.stderr.isatty():
      from rich import progress
      from rich.console import Console
      from rich.table import Column

      self._bar = progress.Progress(
        progress.TextColumn('{task.description}'),
        progress.BarColumn(bar_width=12),
        progress.TextColumn('{task.completed}/{task.total}'),
        progress.TimeRemainingColumn(),
        progress.TextColumn('{task.fields[state]}', table_column=Column(no_wrap=True, overflow='ellipsis', ratio=1)),
        console=Console(stderr=True),
        expand=True,  # gives the last column what is left
        redirect_stdout=sys.stdout.isatty(),
      )
      self._bar.start()
      self._task = self._bar.add_task('starting', completed=self._done, total=self._epochs * self._steps, state='')
      self._handler = logging.get_absl_handler().python_handler
      self._stream = self._handler.stream
      self._handler.setStream(sys.stderr)  # rich has replaced it: log lines go above the bar
    return self

  def __exit__(self, *_):
    if self._bar:
      self._handler.setStream(self._stream)
      self._bar.stop()

  def steps(self, epoch: int, step: int, values: dict) -> None:
    """After a chunk of steps: `values` has train_loss, train_accuracy, images_per_second."""
    if self._bar:
      description = f'epoch {epoch + 1}/{self._epochs}'
      self._bar.update(self._task, description=description, completed=step, state=_figures(values))

  def epoch(self, rows: list[dict]) -> None:
    """After an epoch, with its rows of metrics.jsonl: of a population the means of the members that did not diverge."""
    if self._shows:
      half = 'valid' if 'valid_loss' in rows[0] else 'test'
      names = ('train_loss', 'train_accuracy', 'images_per_second', f'{half}_loss', f'{half}_accuracy')
      good = [row for row in rows if None not in map(row.get, names)]
      means = {name: statistics.fmean(row[name] for row in good) for name in names}
      held_out = f'{half} loss {means[f"{half}_loss"]:.3f} accuracy {means[f"{half}_accuracy"]:.3f}'
      whose = f'mean of {len(good)} members' if 'member' in rows[0] else rows[0].get('genotype', '')
      line = f'epoch {rows[0]["epoch"] + 1}/{self._epochs}  train {_figures(means)}  {held_out}  {whose}'
      print(line.rstrip(), flush=True)


def _figures(values):
  return (
    f'loss {values["train_loss"]:.3f} accuracy {values["train_accuracy"]:.3f}  '
    f'{values["images_per_second"]:.0f} images/s'
  )

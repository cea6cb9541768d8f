import io
import re
import sys
import time

import pytest

from beta_darts_jax.runtime.logs import MetricsFile, Progress, TimedLines, compiling


@pytest.mark.parametrize('before', [b'{"epoch": 0}\n{"epoch": 1}\n{"epoch": 2}\n{"epo', b'\xff\n', b'', None])
def test_metrics_file_continues_from_the_text_of_the_checkpoint(tmp_path, before):
  path = tmp_path / 'metrics.jsonl'
  if before is not None:
    path.write_bytes(before)
  file = MetricsFile(path, '{"epoch": 0}\n{"epoch": 1}\n')
  file.append([{'epoch': 2, 'train_loss': 1.0}])
  file.close()
  assert path.read_text() == file.text == '{"epoch": 0}\n{"epoch": 1}\n{"epoch": 2, "train_loss": 1.0}\n'
  assert [row['epoch'] for row in file.rows] == [0, 1, 2]


VALUES = {'train_loss': 1.25, 'train_accuracy': 0.5, 'images_per_second': 640.0}
ROW = VALUES | {'epoch': 0, 'seconds': 7.0, 'valid_loss': 1.0, 'valid_accuracy': 0.25}
LINE = 'epoch 1/3  train loss 1.250 50.0 %  valid loss 1.000 25.0 %  skips 1  00:14 left\n  |none~0|\n'
NOTE = 'skips 1\n  |none~0|'


class Terminal(io.StringIO):
  def isatty(self):
    return True


def test_progress_on_a_terminal_shows_a_bar(monkeypatch, capsys):
  monkeypatch.setattr(sys, 'stderr', Terminal())
  with Progress(epochs=3, steps=10, done=3) as progress:
    progress.steps(0, 5, VALUES)
    progress.epoch([ROW], NOTE)
  shown = sys.stderr.getvalue()
  for part in ('3/30', 'epoch 1/3', '5/30', 'train loss 1.250 50.0 %', '640 images/s'):
    assert part in shown
  assert capsys.readouterr().out == LINE


def test_progress_elsewhere_prints_a_line_an_epoch(capsys):
  with Progress(epochs=3, steps=10) as progress:
    progress.steps(0, 5, VALUES)
    progress.epoch([ROW], NOTE)
    progress.epoch([ROW | {'epoch': 2}])
  assert capsys.readouterr() == (LINE + 'epoch 3/3  train loss 1.250 50.0 %  valid loss 1.000 25.0 %\n', '')


def test_progress_elsewhere_also_prints_lines_within_long_epochs(monkeypatch, capsys):
  clock = {'now': 0}
  monkeypatch.setattr('beta_darts_jax.runtime.logs.time.monotonic', lambda: clock['now'])
  with Progress(epochs=3, steps=1000, done=500) as progress:
    for seconds in (50, 80, 370, 400):  # the program compiles until second 40, then a step takes one second
      clock['now'] = seconds
      progress.steps(0, 460 + seconds, VALUES)
  lines = [
    'step 540 of 3,000  train loss 1.250 50.0 %  41:00 left\n',
    'step 860 of 3,000  train loss 1.250 50.0 %  35:40 left\n',
  ]
  assert capsys.readouterr().out == ''.join(lines)


def test_a_log_has_the_time_in_front_of_each_line():
  stream = io.StringIO()
  print('one\n\ntwo', 'three', file=(timed := TimedLines(stream)), flush=True)
  timed.write('four')
  timed.write(' five\n')
  lines = stream.getvalue().split('\n')
  assert [re.sub(r'^\d\d:\d\d:\d\d ', 'TIME ', line) for line in lines] == [
    'TIME one', '', 'TIME two three', 'TIME four five', '',
  ]  # fmt: skip


def test_progress_averages_the_members_that_have_not_diverged(capsys):
  members = [
    ROW | {'member': 0},
    ROW | {'member': 1, 'train_loss': 2.25},
    ROW | {'member': 2, 'train_loss': None, 'genotype': None},
  ]
  with Progress(epochs=2, steps=10) as progress:
    progress.epoch(members)
  line = capsys.readouterr().out
  assert 'train loss 1.750' in line and line.endswith('mean of 2 members  00:07 left\n')


def test_progress_of_other_processes_is_silent(capsys):
  with Progress(epochs=2, steps=10, shows=False) as progress:
    progress.steps(0, 5, VALUES)
    progress.epoch([ROW])
  assert capsys.readouterr() == ('', '')


def test_a_long_compilation_shows_that_it_continues(monkeypatch, capsys):
  monkeypatch.setattr('beta_darts_jax.runtime.logs.SECONDS_BETWEEN_SIGNS', 0.01)
  with compiling():
    time.sleep(0.1)
  first, *signs, last = capsys.readouterr().out.splitlines()
  assert (first, last) == ('compiling', 'compiled in 0 s') and 'compiling, 0 s so far' in signs

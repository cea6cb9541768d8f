"""The context of a run, with a toy state whose training only counts steps."""

import json
import os
import signal
import threading

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from beta_darts_jax.errors import NonFiniteLoss, Stopped
from beta_darts_jax.runtime.devices import replicate
from beta_darts_jax.runtime.session import Session, SessionOptions, catch_stop_signals, next_stop
from beta_darts_jax.runtime.workdir import Workdir

OPTIONS = SessionOptions(epochs=3, steps_per_epoch=4, steps_per_dispatch=3, images_per_step=8)
MESH = jax.make_mesh((1, 1), ('population', 'data'), axis_types=(AxisType.Auto,) * 2, devices=jax.devices()[:1])


@flax.struct.dataclass
class Counter:
  step: jax.Array
  sums: dict[str, jax.Array]


def begin(members=()):
  sums = {'train_loss': jnp.zeros(members), 'train_accuracy': jnp.zeros(members)}
  return replicate(Counter(jnp.zeros(members, jnp.int32), sums), MESH)


def train(state, until, loss=1.0):
  """Adds `loss` to the sum of losses at each step up to `until`."""
  steps = until - jax.device_get(state.step)
  added = {'train_loss': state.sums['train_loss'] + steps * loss, 'train_accuracy': state.sums['train_accuracy']}
  return replicate(Counter(jnp.full_like(state.step, until), added), MESH)


def run(path, options=OPTIONS, after_chunk=lambda step: None, loss=1.0, members=(), loggers=()):
  """A whole run; returns the steps at which chunks ended and the rows."""
  chunks = []
  with Workdir(path, {'task': 'toy'}, loggers=loggers) as workdir, Session(workdir, options, MESH) as session:
    state = begin(members)
    state = session.start(state, lambda: state)
    for epoch in session.epochs():
      state = session.start_epoch(state, epoch)
      for until in session.chunks(epoch):
        state = train(state, until, loss)
        after_chunk(until)
        session.after_chunk(state)
        chunks.append(until)
      count = max(1, state.step.size)
      session.after_epoch(state, [{'valid_loss': 2.0, 'valid_accuracy': 0.5} for _ in range(count)])
    return chunks, session.rows


@pytest.mark.parametrize(
  'step, end, dispatch, every, others, expected',
  [
    (0, 100, 20, 0, (), 20),
    (90, 100, 20, 0, (), 100),
    (0, 100, 20, 7, (), 7),
    (7, 100, 20, 7, (), 14),
    (0, 100, 20, 0, (5, 9), 5),
    (5, 100, 20, 0, (5, 9), 9),
  ],
)
def test_a_call_ends_at_the_next_checkpoint_epoch_or_traced_step(step, end, dispatch, every, others, expected):
  assert next_stop(step, end, dispatch, every, others) == expected


def test_a_run_ends_chunks_at_epochs_and_logs_means(tmp_path):
  chunks, rows = run(tmp_path / 'run')
  assert chunks == [3, 4, 7, 8, 11, 12]
  assert [row['epoch'] for row in rows] == [0, 1, 2]
  assert all(row['train_loss'] == 1.0 and row['valid_loss'] == 2.0 for row in rows)
  lines = (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()
  assert [json.loads(line) for line in lines] == rows


class Recorder:
  """A logger that keeps what it gets."""

  def __init__(self):
    self.configs, self.rows, self.results = [], [], []
    self.config, self.row, self.result = self.configs.append, self.rows.append, self.results.append


def test_a_logger_that_fails_loses_no_epoch(tmp_path):
  def fail(row):
    raise ConnectionError('the server is away')

  failing = Recorder()
  failing.row = fail
  with pytest.raises(ConnectionError):
    run(tmp_path / 'run', loggers=[failing])
  chunks, rows = run(tmp_path / 'run')
  assert chunks[0] == 7 and [row['epoch'] for row in rows] == [0, 1, 2]  # it resumes in the second epoch


def test_a_logger_gets_the_config_the_rows_of_metrics_jsonl_and_the_result(tmp_path):
  recorder = Recorder()
  _, rows = run(tmp_path / 'run', loggers=[recorder], members=(2,))
  with Workdir(tmp_path / 'run', {'task': 'toy'}, loggers=[recorder]) as workdir:
    workdir.finish({'genotype': 'x', 'valid_accuracy': np.nan})
  assert recorder.configs == [{'workdir': str(tmp_path / 'run'), 'task': 'toy'}] * 2
  assert recorder.rows == rows and len(rows) == 6
  assert recorder.results == [json.loads((tmp_path / 'run' / 'result.json').read_text())]


def test_a_signal_saves_within_the_epoch_and_the_run_resumes(tmp_path):
  def stop_at_step_7(step):
    if step == 7:
      os.kill(os.getpid(), signal.SIGTERM)

  before = signal.getsignal(signal.SIGTERM)
  with pytest.raises(Stopped):
    run(tmp_path / 'run', after_chunk=stop_at_step_7)
  assert signal.getsignal(signal.SIGTERM) == before
  chunks, rows = run(tmp_path / 'run')
  assert chunks == [8, 11, 12]
  assert [row['train_loss'] for row in rows] == [1.0, 1.0, 1.0]


def test_signals_are_the_systems_until_the_training_begins(tmp_path):
  """A signal ends a run that compiles at once."""
  before = signal.getsignal(signal.SIGTERM)
  with Workdir(tmp_path / 'run', {'task': 'toy'}) as workdir, Session(workdir, OPTIONS, MESH) as session:
    session.start(begin(), begin)
    assert signal.getsignal(signal.SIGTERM) == before
    next(session.chunks(0))
    assert signal.getsignal(signal.SIGTERM) != before
  assert signal.getsignal(signal.SIGTERM) == before


def test_checkpoints_within_an_epoch_end_chunks(tmp_path):
  options = SessionOptions(epochs=1, steps_per_epoch=5, steps_per_dispatch=20, images_per_step=8, checkpoint_every=2)
  assert run(tmp_path / 'run', options)[0] == [2, 4, 5]


def test_non_finite_loss_ends_the_run(tmp_path):
  with pytest.raises(NonFiniteLoss, match='epoch 1, step 3'):
    run(tmp_path / 'run', loss=np.float32(np.nan))
  assert (tmp_path / 'run' / 'diverged.txt').is_file()


def test_one_finite_member_keeps_a_population_running(tmp_path):
  _, rows = run(tmp_path / 'run', loss=np.array([1.0, np.nan], np.float32), members=(2,))
  assert [row['train_loss'] for row in rows] == [1.0, None] * 3


@pytest.fixture
def default_signals():
  """Python's handlers, also where the tests run in the background and SIGINT is ignored."""
  before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
  signal.signal(signal.SIGINT, signal.default_int_handler)
  signal.signal(signal.SIGTERM, signal.SIG_DFL)
  yield
  for number, handler in before.items():
    signal.signal(number, handler)


def test_catch_stop_signals_gives_the_second_signal_its_default(default_signals):
  with catch_stop_signals() as stop:
    os.kill(os.getpid(), signal.SIGINT)
    assert stop.is_set()
    assert signal.getsignal(signal.SIGINT) == signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
  assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_catch_stop_signals_leaves_ignored_signals_and_other_threads(default_signals):
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
  with catch_stop_signals():
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
  handlers = []

  def look():
    with catch_stop_signals():
      handlers.append(signal.getsignal(signal.SIGINT))

  thread = threading.Thread(target=look)
  thread.start()
  thread.join()
  assert handlers == [signal.default_int_handler]

import io
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from beta_darts_jax.method.evaluation import make_evaluate
from beta_darts_jax.method.losses import accuracy, correct, cross_entropy
from beta_darts_jax.runtime.logs import MetricsFile, Progress, TensorBoard


def test_cross_entropy_and_accuracy_by_hand():
  logits = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
  np.testing.assert_allclose(cross_entropy(logits, jnp.array([0, 1])), -np.log(0.5 * 0.1) / 2, rtol=1e-6)
  assert accuracy(logits, jnp.array([0, 1])) == 0.5


@pytest.mark.parametrize('batch_size', [3, 7, 10])
def test_evaluation_counts_every_image_once(batch_size):
  images = jnp.arange(7, dtype=jnp.uint8).reshape(7, 1, 1, 1)
  labels = jnp.array([0, 1, 2, 0, 0, 0, 0])
  logits = lambda scale, x: scale * jnp.eye(7)[x[:, 0, 0, 0].astype(int)]
  loss, right, top5 = make_evaluate(logits, lambda x: x, batch_size)(2.0, images, labels)
  table = 2 * np.eye(7)
  expected = np.mean(np.log(np.exp(table).sum(1)) - table[np.arange(7), labels])
  np.testing.assert_allclose([loss, right], [expected, 3 / 7], rtol=1e-6)
  assert top5 == 1


def test_among_the_best_five():
  top1, top5 = correct(jnp.tile(jnp.arange(7.0), (3, 1)), jnp.array([6, 2, 1]))
  assert top1.tolist() == [True, False, False] and top5.tolist() == [True, True, False]


def test_label_smoothing_by_hand():
  """Targets 0.9 + 0.1/2 and 0.1/2."""
  logits = jnp.log(jnp.array([[0.75, 0.25]]))
  expected = -(0.95 * np.log(0.75) + 0.05 * np.log(0.25))
  np.testing.assert_allclose(cross_entropy(logits, jnp.array([0]), 0.1), expected, rtol=1e-6)


@pytest.mark.parametrize('before', [b'{"epoch": 0}\n{"epoch": 1}\n{"epoch": 2}\n{"epo', b'\xff\n', b'', None])
def test_metrics_file_goes_on_from_the_rows_of_the_checkpoint(tmp_path, before):
  path = tmp_path / 'metrics.jsonl'
  if before is not None:
    path.write_bytes(before)
  file = MetricsFile(path, '{"epoch": 0}\n{"epoch": 1}\n')
  file.append([{'epoch': 2, 'x': 1}])
  file.close()
  assert path.read_text() == file.text == '{"epoch": 0}\n{"epoch": 1}\n{"epoch": 2, "x": 1}\n'
  assert [row['epoch'] for row in file.rows] == [0, 1, 2]


def test_tensorboard_writes_event_files(tmp_path):
  writer = TensorBoard(tmp_path, epochs=0)
  writer.append([{'epoch': 0, 'train_loss': 1.5, 'genotype': '|none~0|'}, {'epoch': 0, 'member': 3, 'train_loss': 1.0}])
  writer.close()
  (file,) = tmp_path.glob('events.out.tfevents.*')
  assert b'train_loss' in file.read_bytes() and b'member_3/train_loss' in file.read_bytes()


VALUES = {'train_loss': 1.25, 'train_accuracy': 0.5, 'images_per_second': 640.0}
ROW = VALUES | {'epoch': 0, 'genotype': '|none~0|', 'valid_loss': 1.0, 'valid_accuracy': 0.25}


class Terminal(io.StringIO):
  def isatty(self):
    return True


def test_a_bar_on_a_terminal(monkeypatch, capsys):
  monkeypatch.setenv('COLUMNS', '80')
  monkeypatch.setattr(sys, 'stderr', Terminal())
  with Progress(epochs=2, steps=10, done=3) as progress:
    progress.steps(0, 5, VALUES)
    progress.epoch([ROW])
  shown = sys.stderr.getvalue()
  for part in ('3/20', 'epoch 1/2', '5/20', 'loss 1.250 accuracy 0.500'):
    assert part in shown
  assert capsys.readouterr().out.startswith('epoch 1/2  train loss 1.250')


def test_a_line_an_epoch_elsewhere(capsys):
  with Progress(epochs=2, steps=10) as progress:
    progress.steps(0, 5, VALUES)
    progress.epoch([ROW])
  shown = capsys.readouterr()
  assert shown.out.startswith('epoch 1/2  train loss 1.250') and shown.out.count('\n') == 1
  assert '|none~0|' in shown.out and shown.err == ''

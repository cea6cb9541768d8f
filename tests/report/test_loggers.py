"""Loggers by name. The adapters run without a network, and only where their package is installed."""

import numpy as np
import pytest
from conftest import optional

import beta_darts_jax as bd
from beta_darts_jax.report.loggers import Reader, find_loggers

CONFIG = {'task': 'search', 'search': {'epochs': 2, 'regularizers': ('beta_decay',)}}
TEXTS = ('|none~0|', '|skip_connect~0|')


def row(epoch: int, cell: int = 0, **more):
  return {
    'epoch': epoch,
    'train_loss': 1.5 - epoch,
    'valid_loss': None,
    'genotype': TEXTS[cell],
    'betas': {'cell': [[0.25, 0.75]]},
    'diagnostics': {'shares': {'skip': 0.5}, 'eigenvalues': [2.0, None]},
    'benchmark': {'cifar10_test': 94.37},
    **more,
  }


def test_a_row_becomes_scalars_histograms_and_a_picture_of_each_new_cell():
  reader = Reader()
  numbers, arrays, images = reader.read(row(0, member=3, seed=7))
  assert numbers == {
    'member_3/train_loss': 1.5,
    'member_3/diagnostics/shares/skip': 0.5,
    'member_3/benchmark/cifar10_test': 94.37,
  }
  assert {name: array.tolist() for name, array in arrays.items()} == {
    'member_3/betas/cell': [0.25, 0.75],
    'member_3/diagnostics/eigenvalues': [2.0],
  }
  assert images['member_3/cell'].dtype == np.uint8 and images['member_3/cell'].shape[2] == 3
  assert not reader.read(row(1, member=3))[2] and not reader.read(row(2, member=3, genotype=None))[2]
  assert reader.read(row(2, cell=1, member=3))[2] and reader.read(row(2))[2]


class Silent:
  """A logger that ignores everything."""

  def config(self, values):
    pass

  row = result = config


def test_registered_classes_and_objects_are_found_by_name(monkeypatch):
  shared = Silent()
  monkeypatch.setitem(bd.LOGGERS, 'class', Silent)
  monkeypatch.setitem(bd.LOGGERS, 'object', shared)
  first, second, again = find_loggers(['class', 'object', 'class'])[:2] + find_loggers(('class',))
  assert second is shared and isinstance(first, Silent) and first is not again


@pytest.mark.parametrize('name, expected', [('nothing', 'tensorboard, wandb, mlflow'), ('number', 'config, row and')])
def test_what_is_no_logger_is_refused(monkeypatch, name, expected):
  monkeypatch.setitem(bd.LOGGERS, 'number', 3)
  with pytest.raises(bd.InputError, match=f"'{name}'.*{expected}"):
    find_loggers([name])


@pytest.mark.parametrize('name', ['tensorboard', 'wandb', 'mlflow'])
def test_a_missing_package_names_the_extra_before_anything_is_written(monkeypatch, tmp_path, name):
  monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
  config = bd.default()
  config.loggers = (name,)
  with pytest.raises(bd.InputError, match=rf'pip install .*\[{name}\]'):
    bd.run_search(config, tmp_path / 'run')
  assert not any(tmp_path.iterdir())


def log_twice(name, folder):
  """Two processes of one run: the second one resumes after the first epoch and finishes."""
  for epochs in ([0], [1]):
    (logger,) = find_loggers([name])
    logger.config({'workdir': str(folder), **CONFIG})
    for epoch in epochs:
      logger.row(row(epoch, cell=epoch))
      logger.row(row(epoch, member=1, seed=5))
    if epochs == [1]:
      logger.result({'genotype': TEXTS[1], 'valid_accuracy': 0.5, 'seconds': {'train': 2.0}})
    logger.close()


@pytest.mark.full
def test_tensorboard_writes_event_files(tmp_path):
  optional('tensorboardX')
  log_twice('tensorboard', tmp_path)
  events = [file.read_bytes() for file in sorted((tmp_path / 'tensorboard').glob('events*'))]
  assert len(events) == 2
  for tag in (b'train_loss', b'betas/cell', b'member_1/diagnostics/eigenvalues', b'PNG', b'config/text_summary'):
    assert tag in events[0]
  assert b'result/text_summary' in events[1]
  (hyperparameters,) = (tmp_path / 'tensorboard' / 'hparams').iterdir()
  assert b'result/valid_accuracy' in hyperparameters.read_bytes()


@pytest.mark.full
@pytest.mark.filterwarnings('ignore')  # of the packages of W&B
def test_wandb_resumes_its_run(monkeypatch, tmp_path):
  optional('wandb')
  monkeypatch.setenv('WANDB_MODE', 'offline')
  log_twice('wandb', tmp_path)
  identity = (tmp_path / 'loggers.json').read_text().split('"')[3]
  runs = sorted(path for path in (tmp_path / 'wandb').glob('offline-run-*') if path.name.endswith(identity))
  logged = [next(run.glob('*.wandb')).read_bytes() for run in runs]
  for name in (b'train_loss', b'betas/cell', b'histogram', b'member_1/diagnostics/eigenvalues'):
    assert name in logged[0], name
  assert b'valid_accuracy' in logged[1] and TEXTS[1].encode() in logged[1]
  assert len(runs) == 2 and list(runs[0].rglob('media/images/*.png'))


@pytest.mark.full
@pytest.mark.filterwarnings('ignore')  # of the packages of MLflow
def test_mlflow_resumes_its_run(monkeypatch, tmp_path):
  mlflow = optional('mlflow')
  monkeypatch.setenv('MLFLOW_TRACKING_URI', f'sqlite:///{tmp_path}/mlflow.db')
  monkeypatch.chdir(tmp_path)  # artifacts
  log_twice('mlflow', tmp_path)
  client = mlflow.MlflowClient()
  (run,) = client.search_runs([client.get_experiment_by_name('beta_darts_jax').experiment_id])
  assert run.info.status == 'FINISHED' and run.data.params['search/epochs'] == '2'
  assert [m.value for m in client.get_metric_history(run.info.run_id, 'train_loss')] == [1.5, 0.5]
  assert run.data.metrics['result/valid_accuracy'] == 0.5
  assert {'config.json', 'result.json', 'rows', 'images'} <= {f.path for f in client.list_artifacts(run.info.run_id)}

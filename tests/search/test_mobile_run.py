"""A search in the space without cells, and the training of its network by the command that the search prints."""

import json
import os
import pathlib
import shlex
import subprocess
import sys

import pytest
from conftest import COMPILED_FAST

ROOT = pathlib.Path(__file__).parents[2]
SEARCH = [
  'search', '--config=mobile:cifar10,proxy', '--config.data.source=digits', '--config.data.image_size=0',
  '--config.data.crop_padding=1', '--config.data.fraction=0.05', '--config.supernet.channels=2',
  "--config.space.operations=('mb_conv_3x3_e3', 'skip_connect')", '--config.search.epochs=1',
  '--config.search.batch_size=8', "--config.search.regularizers=('cost',)", '--config.search.cost_weight=0.1',
  '--config.search.evaluation_images=16',
]  # fmt: skip
RETRAIN = ['--config.network.channels=2', '--config.train.epochs=1', '--config.data.fraction=0.05',
           '--config.train.batch_size=8']  # fmt: skip


def run(*arguments):
  command = [sys.executable, '-m', 'beta_darts_jax.main', *arguments]
  done = subprocess.run(command, cwd=ROOT, env=os.environ | COMPILED_FAST, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  return done.stdout


@pytest.mark.full
def test_a_search_and_the_command_that_follows(tmp_path):
  printed = run(*SEARCH, f'--workdir={tmp_path / "run"}')
  result = json.loads((tmp_path / 'run' / 'result.json').read_text())
  assert result['genotype'].count('|') == 5 and result['genotype'] in printed
  row = json.loads((tmp_path / 'run' / 'metrics.jsonl').read_text())
  assert {name: (len(beta), len(beta[0])) for name, beta in row['betas'].items()} == {
    'normal': (5, 2),
    'reduce': (6, 1),
  }
  cost = result['cost']
  assert 0 < cost['derived'] <= cost['largest'] and cost['expected'] < cost['largest']
  assert row['skips'] == result['genotype'].count('skip_connect')
  page = (tmp_path / 'run' / 'report.html').read_text()
  assert 'stage 5, layer 2' in page and 'The chain of epoch 1' in page

  following = shlex.split(printed.rpartition('next ')[2])[1:]
  run(*following, *RETRAIN)
  trained = json.loads((tmp_path / 'run-retrained' / 'result.json').read_text())
  assert 0 <= trained['test_accuracy'] <= 1 and trained['genotype'] == result['genotype']
  assert 'The chain.' in (tmp_path / 'run-retrained' / 'report.html').read_text()

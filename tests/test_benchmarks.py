"""The scripts of benchmarks/ run in their smallest form. What they measure is not tested."""

import json
import os
import pathlib
import re
import subprocess
import sys
from importlib.util import find_spec

import pytest
from conftest import COMPILED_FAST, external

from beta_darts_jax.networks.costs import PlacedOperation
from beta_darts_jax.search.cost import read_latencies

ROOT = pathlib.Path(__file__).parent.parent
SMALL = ('--channels=2', '--depth=1', '--batch-size=8')


def run(script, *arguments, status=0, **variables):
  """Runs a script and returns what it prints: stdout, or stderr if it fails."""
  environment = os.environ | COMPILED_FAST | {'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'} | variables
  command = [sys.executable, str(ROOT / 'benchmarks' / script), *arguments]
  done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
  assert done.returncode == status, done.stderr
  return done.stderr if status else done.stdout


def rows_of(text):
  """The cells of each row of the first table in `text`, without its heading."""
  lines = [line for line in text.splitlines() if line.startswith('|')]
  return [line.strip('| ').split(' | ') for line in lines[2:]]


@pytest.mark.full
def test_step_prints_a_row():
  row = run('step.py', 'nas_bench_201', *SMALL, '--scan')
  assert re.fullmatch(r'\| nas_bench_201 .*\| [\d.]+ \| [\d.]+ \| [\d.]+ \| [\d.]+ \([\d.]+ … [\d.]+\) \|\n', row)


def test_wrong_options_are_named():
  assert '--only=speed: expected some of steps, chunks' in run('accelerator.py', '--only=speed', status=2)
  assert '--epochs=0: expected 1 to 100' in run('accelerator.py', '--epochs=0', status=2)


@pytest.mark.full
def test_accelerator_prints_its_tables():
  printed = run('accelerator.py', '--small', '--only=steps,chunks,population,search')
  tables = {title: rows_of(table) for title, table in re.findall(r'^(\w.*)\n\n((?:\|.*\n)+)', printed, re.MULTILINE)}
  forms = ['float32, unrolled', 'TF32, unrolled', 'bfloat16, unrolled', 'float32, scanned']
  assert [row[0] for row in tables['Precision and form']] == forms
  assert [row[0] for row in tables['Steps a dispatch']] == ['1', '2', '10']
  assert [row[:2] for row in tables['Populations']] == [['1', 'map'], ['2', 'map'], ['2', 'vmap']]
  assert tables['A search'][0][:2] == ['1', '4']


@pytest.mark.full
def test_methods_prints_a_row_for_each_part():
  only = '--only=first order, softmax; β-DARTS; OLES'
  rows = rows_of(run('methods.py', *SMALL, '--steps=1', '--rounds=1', '--scan', only))
  assert [row[0] for row in rows] == ['first order, softmax', 'β-DARTS', 'OLES'] and rows[0][-1] == '1 (1 … 1)'


@pytest.mark.full
def test_latency_writes_what_a_search_reads(tmp_path):
  file = tmp_path / 'latency.json'
  small = ('--config.supernet.channels=2', "--config.space.operations=('none', 'nor_conv_1x1')", '--image_size=8')
  run('latency.py', f'--config={ROOT}/configs/digits.py', *small, '--calls=2', '--rounds=1', f'--out={file}')
  latency = read_latencies(str(file))
  assert latency(PlacedOperation('nor_conv_1x1', channels=8, stride=1, height=2, width=2)) > 0


@pytest.mark.full
def test_roofline_prints_flops_and_bytes():
  assert [row[0] for row in rows_of(run('roofline.py', *SMALL))] == ['FLOPs', 'bytes']


@pytest.mark.full
def test_imagenet_input_prints_a_row_for_each_number_of_workers():
  folder = external('TFDS_STANDINS_DIR')
  rows = rows_of('|\n|\n' + run('imagenet_input.py', '--batch-size=4', '--batches=1', TFDS_DATA_DIR=folder))
  assert [row[0] for row in rows[:2]] == ['0', '1']


@pytest.mark.full
def test_faults_survives_a_kill(tmp_path):
  page = tmp_path / 'faults.md'
  run('faults.py', '--kills=1', '--only=kill', f'--out={page}')
  assert rows_of(page.read_text())[0][:4] == ['SIGKILL at a random moment', '1', '1', '0']


@pytest.mark.full
@pytest.mark.skipif(find_spec('torch') is None, reason='torch is not installed')
def test_torch_repeats_the_golden_numbers_and_searches(tmp_path):
  assert 'repeat the golden numbers' in run('torch_baseline.py', 'check')
  assert 'NAS-Bench-201' in run('compare.py', '--quick')
  run('torch_search.py', '--seeds=1', '--epochs=1', f'--evidence={tmp_path}')
  assert len(json.loads((tmp_path / 'parity' / 'runs' / 'torch_darts.json').read_text())['rows']) == 1


@pytest.mark.full
@pytest.mark.skipif(find_spec('onnxscript') is None, reason='the extra [onnx] is not installed')
def test_export_prints_a_row_for_each_format():
  rows = rows_of(run('export.py', '--spaces=darts', '--channels=2', '--layers=1'))
  assert [row[2] for row in rows] == ['torch', 'stablehlo', 'onnx']


@pytest.mark.full
@pytest.mark.skipif(find_spec('libtpu') is None, reason='libtpu is not installed')
def test_tpu_aot_prints_a_row_for_each_layout():
  rows = rows_of(run('tpu_aot.py', *SMALL, '--slices=v5e:1x1', '--programs=nas_bench_201', '--costliest=1'))
  assert [row[0].split(', ', 2)[2] for row in rows] == ['1 × 1', '1 × 1, 8 members by map', '1 × 1, 8 members by vmap']

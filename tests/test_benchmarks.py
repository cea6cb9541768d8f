"""The scripts of benchmarks/ work; what they measure is no matter of tests."""

import os
import pathlib
import re
import subprocess
import sys

BENCHMARKS = pathlib.Path(__file__).parent.parent / 'benchmarks'


def run(script, *arguments):
  environment = os.environ | {'XLA_FLAGS': '--xla_backend_optimization_level=0'}
  command = [sys.executable, str(BENCHMARKS / script), *arguments]
  return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)


def test_accelerator_script_at_a_small_size():
  done = run('accelerator.py', '--small', '--only=steps,chunks,population,search')
  assert done.returncode == 0, done.stderr
  for row in (
    'float32, scanned',
    'TF32, scanned',
    'bfloat16, scanned',
    '1',
    '2',
    '10',
    r'2 \| map',
    r'2 \| vmap',
    r'2 \| 4',
  ):
    assert re.search(rf'^\| {row} \|', done.stdout, re.MULTILINE), row


def test_accelerator_script_names_unknown_parts():
  done = run('accelerator.py', '--only=speed')
  assert done.returncode == 2 and 'speed unknown, allowed are steps, chunks' in done.stderr


def test_step_prints_a_row():
  done = run('step.py', 'nas_bench_201', '--channels=2', '--depth=1', '--batch-size=8', '--scan')
  assert done.returncode == 0, done.stderr
  assert re.fullmatch(r'\| nas_bench_201 .*\| \d+ \| \d+ \| [\d.]+ \| [\d.]+ \([\d.]+ … [\d.]+\) \|\n', done.stdout)

"""The scripts of benchmarks/ work; what they measure is no matter of tests."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import pytest
from conftest import COMPILED_FAST

BENCHMARKS = pathlib.Path(__file__).parent.parent / 'benchmarks'


def run(script, *arguments):
  environment = os.environ | COMPILED_FAST
  command = [sys.executable, str(BENCHMARKS / script), *arguments]
  return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)


@pytest.mark.full
def test_accelerator_script_at_a_small_size():
  done = run('accelerator.py', '--small', '--only=steps,chunks,population,search')
  assert done.returncode == 0, done.stderr
  tables = dict(re.findall(r'^(\w.*)\n\n((?:\|.*\n)+)', done.stdout, re.MULTILINE))
  rows = {title: [line.split(' | ')[0] for line in table.splitlines()[2:]] for title, table in tables.items()}
  assert rows['Precision and form'] == ['| float32, scanned', '| TF32, scanned', '| bfloat16, scanned']
  assert rows['Steps a dispatch'] == ['| 1', '| 2', '| 10']
  assert rows['Populations'] == ['| 1', '| 2', '| 2'] and '| 2 | vmap |' in tables['Populations']
  assert tables['A whole search'].splitlines()[2].startswith('| 2 | 4 |')


def test_accelerator_script_names_unknown_parts():
  done = run('accelerator.py', '--only=speed')
  assert done.returncode == 2 and 'speed unknown, allowed are steps, chunks' in done.stderr


def test_step_prints_a_row():
  done = run('step.py', 'nas_bench_201', '--channels=2', '--depth=1', '--batch-size=8', '--scan')
  assert done.returncode == 0, done.stderr
  assert re.fullmatch(r'\| nas_bench_201 .*\| \d+ \| \d+ \| [\d.]+ \| [\d.]+ \([\d.]+ … [\d.]+\) \|\n', done.stdout)


@pytest.mark.full
def test_methods_prints_a_row_for_each_part():
  sizes = '--channels=2', '--batch-size=8', '--steps=1', '--rounds=1', '--scan'
  done = run('methods.py', *sizes, '--only=first order, softmax; GDAS')
  assert done.returncode == 0, done.stderr
  rows = done.stdout.splitlines()[2:]
  assert [row.split(' | ')[0] for row in rows] == ['| first order, softmax', '| GDAS'] and ' 1 (1 … 1) |' in rows[0]


PROGRAM = """HloModule step

%body.1 (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %f.1 = f32[4]{0} fusion(%p), kind=kLoop, backend_config={"estimated_cycles":"10"}
  %r.1 = f32[4]{0} all-reduce(%f.1), to_apply=%sum
}

%cond.1 (p: (s32[], f32[4])) -> pred[] {
  %n = s32[]{:T(128)} constant(6)
}

%outer_body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %w.1 = (s32[], f32[4]{0}) while(%t), condition=%cond.1, body=%body.1
  %f.2 = f32[4]{0} fusion(%p), kind=kLoop, backend_config={"estimated_cycles":"1"}
}

%cheap (p: f32[4]) -> f32[4] {
  %f.4 = f32[4]{0} fusion(%p), kind=kLoop, backend_config={"estimated_cycles":"2"}
}

%dear (p: f32[4]) -> f32[4] {
  %f.5 = f32[4]{0} fusion(%p), kind=kLoop, backend_config={"estimated_cycles":"1000"}
}

%outer_cond (p: (s32[], f32[4])) -> pred[] {
  %n.1 = s32[] constant(5)
}

ENTRY %main (p: f32[4]) -> f32[4] {
  %w.2 = (s32[], f32[4]{0}) while(%t), condition=%outer_cond, body=%outer_body
  %r.2 = f32[4]{0} all-gather-start(%p), dimensions={0}
  %c.1 = f32[4]{0} call(%p), to_apply=%cheap
  %c.2 = f32[4]{0} conditional(%i, %p, %p), branch_computations={%cheap, %dear}
  %c.3 = f32[4]{0} conditional(%b, %p, %p), true_computation=%dear, false_computation=%cheap
  ROOT %f.3 = f32[4]{0} fusion(%p), kind=kLoop, backend_config={"estimated_cycles":"100"}
}
"""


def test_cycles_and_collectives_count_the_turns_of_loops():
  spec = importlib.util.spec_from_file_location('tpu_aot', BENCHMARKS / 'tpu_aot.py')
  tpu_aot = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(tpu_aot)
  assert tpu_aot.executed(PROGRAM) == {
    'cycles': 5 * (6 * 10 + 1) + 2 + 2 * 1000 + 100,
    'all-reduce': 30,
    'all-gather': 1,
  }

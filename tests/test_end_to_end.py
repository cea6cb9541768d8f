"""Whole runs as a user starts them. After a kill, a stop or damage a run resumes to the same bits."""

import gzip
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from conftest import COMPILED_FAST, external

from beta_darts_jax import SearchSpace, load, load_run
from beta_darts_jax.networks.interop import network_state_dict
from beta_darts_jax.runtime.checkpoint import load_arrays

ROOT = pathlib.Path(__file__).parent.parent
STEPS, EPOCHS = 22, 4
ARGUMENTS = [
  '--config=configs/digits.py',
  '--config.space.nodes=2',
  "--config.space.operations=('skip_connect', 'nor_conv_3x3')",
  '--config.supernet.channels=2',
  f'--config.search.epochs={EPOCHS}',
  '--config.search.steps_per_dispatch=1',
  '--config.checkpoint.every_steps=5',
  '--config.retrain.epochs=0',
]


@pytest.fixture(scope='module')
def environment(tmp_path_factory):
  """A compilation cache of this module, which also holds the smallest programs."""
  cache = {'JAX_COMPILATION_CACHE_DIR': str(tmp_path_factory.mktemp('cache'))}
  cache['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
  return os.environ | COMPILED_FAST | cache | {'PYTHONUNBUFFERED': '1'}


def start_python(*arguments, environment):
  pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'text': True}
  return subprocess.Popen([sys.executable, *map(str, arguments)], cwd=ROOT, env=environment, **pipes)


def start(workdir, environment, *more, arguments=ARGUMENTS):
  arguments = ['-m', 'beta_darts_jax.main', *arguments, f'--workdir={workdir}', *more]
  return start_python(*arguments, environment=environment)


def finish(process):
  out, err = process.communicate(timeout=300)
  return process.returncode, out, err


def wait_for_checkpoint(process, workdir, step):
  while not any(int(f.name) >= step for f in (workdir / 'checkpoints').glob('*') if f.name.isdigit()):
    assert process.poll() is None, process.communicate()
    time.sleep(0.001)


def wait_for_checksums(process, workdir, step):
  """Waits until a checkpoint of `step` or later has its checksums, and returns its folder."""
  while not (steps := [int(f.stem) for f in (workdir / 'seals').glob('*.json') if int(f.stem) >= step]):
    assert process.poll() is None, process.communicate()
    time.sleep(0.001)
  return workdir / 'checkpoints' / str(steps[0])


def final_state(workdir):
  return load_arrays(workdir)


def rows(workdir):
  lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  return [{k: v for k, v in line.items() if k not in ('seconds', 'images_per_second')} for line in lines]


@pytest.fixture(scope='module')
def reference(tmp_path_factory, environment):
  """A finished run, with its output."""
  workdir = tmp_path_factory.mktemp('reference')
  code, out, err = finish(start(workdir, environment, "--config.loggers=('tensorboard',)", '--config.profile=23:25'))
  assert code == 0, err
  return workdir, out


def test_what_a_run_leaves(reference):
  workdir, out = reference
  lines = rows(workdir)
  assert [line['epoch'] for line in lines] == list(range(EPOCHS))
  assert [line['beta_decay_weight'] for line in lines] == [50 * epoch * STEPS / 39_000 for epoch in range(EPOCHS)]
  assert lines[-1]['train_loss'] < lines[0]['train_loss']
  result = json.loads((workdir / 'result.json').read_text())
  genotype = json.loads((workdir / 'genotype.json').read_text())['genotype']
  assert result['genotype'] == genotype == lines[-1]['genotype']
  space = SearchSpace('small', 'nas_bench_201', 2, ('skip_connect', 'nor_conv_3x3'))
  assert genotype == str(space.derive({k: np.array(v) for k, v in lines[-1]['betas'].items()}))
  assert 'benchmark' not in result and 'benchmark' not in lines[0]  # digits are not in any table
  assert set(result['seconds']) == {'compile', 'train', 'other'} and result['environment']['versions']['jax']
  assert result['memory']['host'] > 2**27
  command = json.loads((workdir / 'environment.json').read_text())['command']
  assert command.startswith('python -m beta_darts_jax.main --config=configs/digits.py ') and str(workdir) in command
  assert list((workdir / 'tensorboard').glob('events.*'))
  (trace,) = (workdir / 'profile').rglob('perfetto_trace.json.gz')
  assert 'traceEvents' in json.loads(gzip.decompress(trace.read_bytes()))
  assert genotype in (workdir / 'report.html').read_text()
  assert genotype in out and str(workdir) in out and out.count('epoch ') == EPOCHS


def test_a_killed_and_damaged_run_resumes_to_the_same_bits(reference, environment, tmp_path):
  workdir = tmp_path / 'run'
  process = start(workdir, environment)
  damaged = wait_for_checksums(process, workdir, 30)  # in the middle of the second epoch
  process.kill()
  finish(process)
  assert not (workdir / 'result.json').exists()

  file = max((f for f in damaged.rglob('*') if f.is_file()), key=lambda f: f.stat().st_size)
  content = bytearray(file.read_bytes())
  content[len(content) // 2] ^= 1
  file.write_bytes(content)
  (workdir / 'metrics.jsonl').write_text('{"epoch": 0}\n{"ep')
  code, out, err = finish(start(workdir, environment))
  assert code == 0 and f'checkpoint {damaged.name} is damaged and not used' in err, err
  step = int(re.search(r'resuming from step (\d+)', out)[1])
  assert step >= 25 and step % STEPS, 'the kill was meant to come in the middle of an epoch'

  state = final_state(workdir)
  jax.tree.map(np.testing.assert_array_equal, state, final_state(reference[0]))
  assert state['step'] == STEPS * EPOCHS
  assert rows(workdir) == rows(reference[0])


@pytest.mark.full
def test_a_second_process_cannot_use_the_folder_of_a_running_one(environment, tmp_path):
  """The report of the running one can be written."""
  process = start(tmp_path / 'run', environment)
  wait_for_checkpoint(process, tmp_path / 'run', STEPS)
  process.send_signal(signal.SIGSTOP)
  code, _, err = finish(start(tmp_path / 'run', environment))
  assert code == 2 and 'in use by another process' in err and err.count('\n') == 1
  report = [sys.executable, '-m', 'beta_darts_jax.main', f'--report={tmp_path}/run', f'--out={tmp_path}/page.html']
  assert subprocess.run(report, cwd=ROOT, env=environment, capture_output=True).returncode == 0
  assert 'Running, after epoch ' in (tmp_path / 'page.html').read_text()
  process.kill()
  finish(process)


@pytest.mark.full
def test_a_non_finite_loss_ends_the_run_with_status_1(environment, tmp_path):
  code, _, err = finish(start(tmp_path, environment, '--config.search.learning_rate=1e38'))
  assert code == 1 and 'no longer finite' in err and 'epoch 1, step' in err and err.count('\n') == 1, err
  assert not (tmp_path / 'result.json').exists()
  assert 'Diverged (the loss is no longer finite in epoch 1, step' in (tmp_path / 'report.html').read_text()


SMALL = "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1)], normal_concat=[2], reduce=[('sep_conv_3x3', 0), ('max_pool_3x3', 1)], reduce_concat=[2])"  # noqa: E501
TASKS = {  # the paper's other data sets, as stand-ins in their real schema; epochs of eleven steps
  'search': (
    '--config=configs/nas_bench_201.py:imagenet16_120', '--config.space.name=s2', '--config.space.nodes=1',
    '--config.supernet.channels=2', '--config.supernet.layers=1', '--config.supernet.unroll=False',
    '--config.data.fraction=0.12', '--config.parallel.cpu_devices=2', '--config.search.epochs=4',
    '--config.search.steps_per_dispatch=1',
  ),
  'retrain': (
    '--config=configs/retrain_cifar100.py', '--config.network.channels=2',
    '--config.network.layers=3', '--config.data.fraction=0.036', '--config.train.epochs=4',
    '--config.train.batch_size=32', '--config.train.ema_decay=0.9', '--config.train.steps_per_dispatch=1',
  ),
}  # fmt: skip
CLASSES = {'search': 120, 'retrain': 100}


def times(workdir):
  """When each file of a run was written, except for those that reading it writes."""
  written = [file for file in workdir.rglob('*') if file.is_file() and file.name not in ('lock', 'report.html')]
  return {file: file.stat().st_mtime_ns for file in written}


@pytest.mark.full
@pytest.mark.parametrize('task', TASKS)
def test_a_run_of_each_task_resumes_to_the_same_bits(task, environment, tmp_path):
  environment = environment | {'TFDS_DATA_DIR': external('TFDS_STANDINS_DIR')}
  more = ['--config.checkpoint.every_steps=8']
  if task != 'search':  # as a search leaves it
    (tmp_path / 'found').mkdir()
    found = {'space': {'name': 'darts', 'auxiliary_skip': False}, 'genotype': SMALL}
    (tmp_path / 'found' / 'genotype.json').write_text(json.dumps(found))
    more.append(f'--config.genotype={tmp_path}/found')

  def begin(folder):
    return start(tmp_path / folder, environment, *more, arguments=TASKS[task])

  code, out, err = finish(begin('whole'))
  assert code == 0, err
  result = json.loads((tmp_path / 'whole' / 'result.json').read_text())
  assert result['genotype'] in out and set(result['seconds']) == {'compile', 'train', 'other'}
  lines = map(json.loads, (tmp_path / 'whole' / 'metrics.jsonl').read_text().splitlines())
  assert result['seconds']['train'] == pytest.approx(sum(line['seconds'] for line in lines), abs=0.01)
  assert min(result['seconds'].values()) > 0
  assert result['environment']['devices'] == (2 if task == 'search' else 1)

  process = begin('stopped')
  wait_for_checkpoint(process, tmp_path / 'stopped', 16)
  process.terminate() if task == 'retrain' else process.kill()
  code, out, err = finish(process)
  if task == 'retrain':
    assert code == 0 and 'Stopped. The same command resumes the run.' in out and 'Stopping after' in err, err
    assert 'Interrupted ' in (tmp_path / 'stopped' / 'report.html').read_text()
  code, out, err = finish(begin('stopped'))
  step, last = int(re.search(r'resuming from step (\d+)', out)[1]), 11 * len(rows(tmp_path / 'whole'))
  assert code == 0 and 16 <= step < last, err
  assert task == 'retrain' or step % 11, 'the kill was meant to come in the middle of an epoch'
  assert rows(tmp_path / 'stopped') == rows(tmp_path / 'whole')
  states = [final_state(tmp_path / run) for run in ('stopped', 'whole')]
  jax.tree.map(np.testing.assert_array_equal, *states)
  assert states[0]['step'] == last
  members = (1,) if task == 'search' else ()  # a search's state has a leading axis
  assert states[0]['params']['network']['classifier']['bias'].shape == (*members, CLASSES[task])

  if task == 'search':  # the same command does not change a finished run
    before = times(tmp_path / 'whole')
    code, out, _ = finish(begin('whole'))
    assert code == 0 and 'is finished' in out and times(tmp_path / 'whole') == before
  else:
    assert f'{result["parameters"]:,} parameters' in out and result['multiply_adds'] > 0
    assert 0 <= result['test_accuracy'] <= result['test_top5_accuracy'] <= 1
    network = load(tmp_path / 'whole')
    images = np.zeros((2, *network.image_shape), np.uint8)
    assert network(images).shape == (2, len(network.classes)) == (2, CLASSES[task])
    genotype, variables = load_run(tmp_path / 'whole')
    assert str(genotype) == result['genotype']
    assert network_state_dict(variables, genotype)['classifier.weight'].shape[0] == CLASSES[task]


@pytest.mark.full
def test_a_chain_that_is_killed_twice_and_stopped_once_ends_with_the_same_bits(environment, tmp_path):
  """A search on streamed pictures, the training of its cell on streamed pictures, the export: tests/chain.py."""
  environment = environment | {'TFDS_DATA_DIR': external('TFDS_STANDINS_DIR'), 'PYTHONPATH': str(ROOT)}

  def begin(folder):
    return start_python('tests/chain.py', tmp_path / folder, environment=environment)

  code, _, err = finish(begin('whole'))
  assert code == 0, err
  ends = []
  for run, step, number in (
    ('search', 4, signal.SIGKILL),
    ('training', 4, signal.SIGKILL),
    ('training', 12, signal.SIGTERM),
  ):
    process = begin('killed')
    wait_for_checkpoint(process, tmp_path / 'killed' / run, step)
    process.send_signal(number)
    ends.append(finish(process))  # which ends when the worker processes end
    assert not (tmp_path / 'killed' / run / 'result.json').exists()
  assert ends[2][0] == 0, ends[2]  # SIGTERM saves the state
  code, out, err = finish(begin('killed'))
  assert code == 0, err
  for output, first, steps in zip((ends[1][1], ends[2][1], out), (4, 4, 12), (15, 24, 24), strict=True):
    step, last = map(int, re.search(r'resuming from step (\d+) of (\d+)', output).groups())
    assert first <= step < last == steps, 'the signal was meant to come in the middle of the epoch'

  whole, killed = tmp_path / 'whole', tmp_path / 'killed'
  for run in ('search', 'training'):
    assert rows(killed / run) == rows(whole / run)
    jax.tree.map(np.testing.assert_array_equal, final_state(killed / run), final_state(whole / run))
  genotype = 'search/genotype.json'
  assert (killed / genotype).read_text() == (whole / genotype).read_text()
  files = sorted(file.name for file in (whole / 'exported').iterdir())
  assert 'model.safetensors' in files
  for file in files:
    assert (killed / 'exported' / file).read_bytes() == (whole / 'exported' / file).read_bytes()

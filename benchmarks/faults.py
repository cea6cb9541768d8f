"""What an unfinished run survives: kills at random moments, damage of its files, a full or read-only disk.

  python benchmarks/faults.py [--kills 30] [--seed 0]         # up to an hour on two cores; writes docs/faults.md

Each case is a small search on digits with checkpoints every 5 steps, disturbed once, then started again with the same
command. Survived: exit status 0, and the state, rows and genotype in the end are those of the run that nothing
disturbed, bit for bit. Where a damaged file stops the second start, with exit status 2 and one line that says to remove
it, that is done and the command started once more. Lost: anything else. A case in which the fault did not come to pass,
as where the run was done before the kill, is counted apart. A full disk is a tmpfs, which asks for root.
"""

import argparse
import collections
import contextlib
import itertools
import json
import os
import pathlib
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np

from beta_darts_jax.runtime.checkpoint import Checkpoints

ROOT = pathlib.Path(__file__).parent.parent
VALUES = [
  'supernet.channels=2', 'search.epochs=4', 'search.steps_per_dispatch=1', 'checkpoint.every_steps=5',
  'retrain.epochs=0',
]  # fmt: skip
COMMAND = [
  sys.executable,
  '-m',
  'beta_darts_jax.main',
  '--config=configs/digits.py',
  *(f'--config.{v}' for v in VALUES),
]


def start(workdir):
  return subprocess.Popen(
    [*COMMAND, f'--workdir={workdir}'], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  )


def finish(process):
  """(exit status, what it said on stderr)."""
  _, said = process.communicate(timeout=600)
  return process.returncode, said


def killed(process):
  """Kills it; whether it was still at work."""
  process.kill()
  return finish(process)[0] == -signal.SIGKILL


def wait_for(process, path):
  while not path.exists():
    assert process.poll() is None, finish(process)
    time.sleep(0.01)


def outcome(workdir):
  """(final state, rows without times, genotype)."""
  with contextlib.closing(Checkpoints(workdir)) as checkpoints:
    state = checkpoints.restore_arrays()
  rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  rows = [{k: v for k, v in row.items() if k not in ('seconds', 'images_per_second')} for row in rows]
  return state, rows, (workdir / 'genotype.json').read_text()


def survives(workdir, reference) -> str:
  """Starts the command again; '' if all is as in the reference, else what is not."""
  status, said = finish(start(workdir))
  if status:
    lines = said.strip().splitlines()
    return f'exit status {status}: {lines[-1][:400]}' + (f' ({len(lines)} lines)' if len(lines) > 1 else '')
  state, rows, genotype = outcome(workdir)
  same = jax.tree.structure(state) == jax.tree.structure(reference[0])
  same = same and all(map(np.array_equal, jax.tree.leaves(state), jax.tree.leaves(reference[0])))
  return '' if same and (rows, genotype) == reference[1:] else 'other bits'


# ---- the cases: each yields (what was done, whether it came to pass, '' or what was lost) ----


def kills(folder, reference, seconds, count, rng):
  """SIGKILL, uniformly over the time that an undisturbed run takes, until `count` were in time."""
  numbers = itertools.count()
  while count:
    workdir, moment = folder / f'kill{next(numbers)}', rng.uniform(0, seconds)
    process = start(workdir)
    time.sleep(moment)
    in_time = killed(process)
    yield f'after {moment:.1f} s', in_time, survives(workdir, reference)
    count -= in_time


def kills_while_saving(folder, reference, count):
  """SIGKILL as soon as a checkpoint's temporary folder is there: in the midst of its being written."""
  for i in range(count):
    workdir = folder / f'saving{i}'
    process = start(workdir)
    while process.poll() is None:
      begun = list((workdir / 'checkpoints').glob('*tmp*')) if (workdir / 'checkpoints').is_dir() else []
      if any(int(path.name.split('.')[0]) >= 5 * (i + 1) for path in begun):
        break
    yield f'while step {5 * (i + 1)} or later is saved', killed(process), survives(workdir, reference)


def stop_half_way(workdir):
  """Runs to step 45 or a little further, and stops as by SIGTERM."""
  process = start(workdir)
  wait_for(process, workdir / 'checkpoints' / '45')
  process.terminate()
  finish(process)


def damages_of_checkpoint(folder, reference):
  """Every file of the newest checkpoint truncated, with a bit flipped, and missing; of the seals, too."""
  stop_half_way(half := folder / 'half')
  newest = max((half / 'checkpoints').iterdir(), key=lambda step: int(step.name))
  files = [*newest.rglob('*'), half / 'seals' / f'{newest.name}.json']
  yield from damages(folder, reference, half, [file for file in files if file.is_file()])


def damages_beside(folder, reference):
  """The other files of the folder of the run."""
  stop_half_way(half := folder / 'half_again')
  yield from damages(folder, reference, half, [file for file in half.iterdir() if file.is_file()])


def damages(folder, reference, half, files):
  for file in sorted(file.relative_to(half) for file in files):
    for damage in ('truncated', 'bit flipped', 'missing'):
      shutil.copytree(half, workdir := folder / 'damaged')
      before = (workdir / file).read_bytes()
      content = bytearray(before)
      if damage == 'missing':
        (workdir / file).unlink()
      else:
        if damage == 'truncated':
          del content[len(content) // 2 :]
        elif content:
          content[len(content) // 2] ^= 1
        (workdir / file).write_bytes(content)
      happened = damage == 'missing' or content != before  # an empty file cannot be truncated
      lost = survives(workdir, reference)
      what = f'{file} {damage}'
      if lost.startswith('exit status 2') and not lost.endswith('lines)') and f'{file}' in lost and 'remove it' in lost:
        what += f' ({lost})'
        (workdir / file).unlink(missing_ok=True)
        lost = survives(workdir, reference)
      yield what, happened, lost
      shutil.rmtree(workdir)


def full_disks(folder, reference):
  """A tmpfs too small for the run, which then gets room; one line and exit status 2 in between."""
  for size in (100, 300, 600, 1200, 1500):
    disk = folder / f'disk{size}'
    disk.mkdir()
    mount = lambda options, disk=disk: subprocess.run(
      ['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', disk], check=True
    )
    mount(f'size={size}k')
    try:
      status, said = finish(start(disk / 'run'))
      subprocess.run(['mount', '-o', 'remount,size=50m', disk], check=True)
      lost = survives(disk / 'run', reference)
      if status not in (0, 2) or said.count('\n') != (status == 2):
        lost = f'exit status {status} and {said.count(chr(10))} lines: {said[-200:]}'
      yield f'{size} KiB', status != 0, lost
    finally:
      subprocess.run(['umount', disk], check=True)


def read_only(folder, reference):
  """A run that is half done on a disk that then is read-only: one line, and it goes on when the disk is writable."""
  disk = folder / 'read_only'
  disk.mkdir()
  subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=50m', 'tmpfs', disk], check=True)
  try:
    stop_half_way(disk / 'run')
    subprocess.run(['mount', '-o', 'remount,ro', disk], check=True)
    status, said = finish(start(disk / 'run'))
    subprocess.run(['mount', '-o', 'remount,rw', disk], check=True)
    lost = survives(disk / 'run', reference)
    yield (
      'read-only',
      status != 0,
      lost or ('' if status == 2 and said.count('\n') == 1 else f'exit status {status}: {said[-200:]}'),
    )
  finally:
    subprocess.run(['umount', disk], check=True)


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--kills', type=int, default=30)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--out', type=pathlib.Path, default=ROOT / 'docs' / 'faults.md')
  options = parser.parse_args()
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    os.environ['JAX_COMPILATION_CACHE_DIR'] = str(folder / 'cache')
    os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
    finish(start(folder / 'first'))  # fills the cache
    started = time.perf_counter()
    assert finish(start(folder / 'reference'))[0] == 0
    seconds, reference = time.perf_counter() - started, outcome(folder / 'reference')
    cases = {
      'SIGKILL at a random moment': kills(folder, reference, seconds, options.kills, random.Random(options.seed)),
      'SIGKILL while a checkpoint is written': kills_while_saving(folder, reference, 5),
      'a file of the newest checkpoint, or its seal, damaged': damages_of_checkpoint(folder, reference),
      'another file of the folder of the run damaged': damages_beside(folder, reference),
    }
    if os.geteuid() == 0:
      cases |= {
        'a full disk, then room': full_disks(folder, reference),
        'a read-only disk, then writable': read_only(folder, reference),
      }
    lines, losses = [], []
    for title, tried in cases.items():
      ends = collections.Counter()
      for what, happened, lost in tried:
        end = 'lost' if lost else 'survived' if happened else 'not come to pass'
        ends[end] += 1
        print(f'{title}, {what}: {lost or end}', flush=True)
        losses += [f'- {title}, {what}: {lost}'] if lost else []
      counts = [ends['survived'] + ends['lost'], ends['survived'], ends['lost'], ends['not come to pass']]
      lines.append(f'| {title} | {" | ".join(map(str, counts))} |')
  where = f'{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, jax {jax.__version__}'
  options.out.write_text(
    '\n'.join(
      [
        '# Faults',
        '',
        f'Written by `benchmarks/faults.py --kills {options.kills} --seed {options.seed}`: a search on digits of '
        f'{seconds:.0f} s with checkpoints every five steps, disturbed once, then started again with the same command. '
        'Survived: the final state, rows and genotype are bit for bit those of a run that nothing disturbed. Where a '
        'damaged file stopped the second start, with exit status 2 and one line that said to remove it, that was done '
        'and the command started once more.',
        '',
        '| fault | cases | survived | lost | not come to pass |',
        '|---|---|---|---|---|',
        *lines,
        '',
        *losses,
        *([''] if losses else []),
        f'{where}.',
        '',
      ]
    )
  )


if __name__ == '__main__':
  main()

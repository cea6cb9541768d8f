"""Tests what an unfinished run survives: kills at random moments, damaged files, a full disk, a read-only disk.

  python benchmarks/faults.py [--kills 30] [--seed 0] [--only kill,full_disk]   # up to an hour on two cores

It writes docs/faults.md, or the file given as --out. Each case is a small search on digits with a checkpoint every 5
steps. One fault hits the run, and then the same command starts it again.

survived: exit status 0, and the final state, rows and genotype are bit for bit those of a run without a fault. How the
  first start ended does not matter: a full disk gives the traceback of an OSError. A damaged file may stop the second
  start with exit status 2 and one line that says to remove it. Then the script removes it and starts the command again.
lost: anything else.
did not happen: the fault came too late, for example because the run had finished before the kill.

The cases of a disk mount a tmpfs, so they need root and are left out without it.
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
from typing import Any, NamedTuple

import jax
import numpy as np

from beta_darts_jax.runtime.checkpoint import load_arrays

ROOT = pathlib.Path(__file__).parent.parent
CHECKPOINT_EVERY = 5  # steps
COMMAND = [
  *(sys.executable, '-m', 'beta_darts_jax.main', '--config=configs/digits.py', '--config.supernet.channels=2'),
  *('--config.search.epochs=4', '--config.search.steps_per_dispatch=1', '--config.retrain.epochs=0'),
  f'--config.checkpoint.every_steps={CHECKPOINT_EVERY}',
]


class Outcome(NamedTuple):
  """What a finished run leaves, without its times."""

  state: Any
  rows: list[dict]
  genotype: str


class Reference(NamedTuple):
  """The run without a fault."""

  outcome: Outcome
  seconds: float


class Case(NamedTuple):
  """One fault.

  Attributes:
    fault: what was done.
    happened: whether the fault hit the run.
    loss: what was lost; '' if nothing.
  """

  fault: str
  happened: bool
  loss: str

  @property
  def end(self) -> str:
    if self.loss:
      return 'lost'
    return 'survived' if self.happened else 'did not happen'


# ---- runs ----


def start(workdir):
  command = [*COMMAND, f'--workdir={workdir}']
  return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process):
  """Waits for the process and returns (exit status, its stderr)."""
  _, stderr = process.communicate(timeout=600)
  return process.returncode, stderr


def kill(process):
  """Kills the process and returns whether it was still running."""
  process.kill()
  return finish(process)[0] == -signal.SIGKILL


def stop_half_way(workdir):
  """Runs to step 45 or a little further and stops the run with SIGTERM."""
  process = start(workdir)
  while not (workdir / 'checkpoints' / '45').exists():
    if process.poll() is not None:
      sys.exit(f'error: the run ended before step 45: {finish(process)}')
    time.sleep(0.01)
  process.terminate()
  finish(process)


def read_outcome(workdir) -> Outcome:
  state = load_arrays(workdir)
  rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  rows = [{k: v for k, v in row.items() if k not in ('seconds', 'images_per_second')} for row in rows]
  return Outcome(state, rows, (workdir / 'genotype.json').read_text())


def equal(one: Outcome, other: Outcome) -> bool:
  """Returns whether two outcomes have the same bits."""
  if jax.tree.structure(one.state) != jax.tree.structure(other.state):
    return False
  leaves = zip(jax.tree.leaves(one.state), jax.tree.leaves(other.state), strict=True)
  return all(np.array_equal(a, b) for a, b in leaves) and one[1:] == other[1:]


def find_loss(workdir, reference) -> str:
  """Starts the command again and returns what was lost; '' if the outcome is that of the reference."""
  status, stderr = finish(start(workdir))
  if status:
    lines = stderr.strip().splitlines() or ['']
    return f'exit status {status}: {lines[-1][:400]}' + (f' ({len(lines)} lines)' if len(lines) > 1 else '')
  return '' if equal(read_outcome(workdir), reference.outcome) else 'other bits'


# ---- faults: each function yields Cases ----


def kill_at_random(folder, reference, options):
  """SIGKILL, uniformly over the time of a run without a fault, until `kills` of them came in time."""
  rng, count, numbers = random.Random(options.seed), options.kills, itertools.count()
  while count:
    workdir, moment = folder / f'kill{next(numbers)}', rng.uniform(0, reference.seconds)
    process = start(workdir)
    time.sleep(moment)
    in_time = kill(process)
    yield Case(f'after {moment:.1f} s', in_time, find_loss(workdir, reference))
    count -= in_time


def kill_while_saving(folder, reference, options):
  """SIGKILL as soon as the temporary folder of a checkpoint exists, so while it is written."""
  del options
  for i in range(5):
    workdir, least = folder / f'saving{i}', CHECKPOINT_EVERY * (i + 1)
    process = start(workdir)
    while process.poll() is None:
      if any(int(path.name.split('.')[0]) >= least for path in (workdir / 'checkpoints').glob('*tmp*')):
        break
    yield Case(f'while step {least} or later is saved', kill(process), find_loss(workdir, reference))


def damage_checkpoint(folder, reference, options):
  """Damages each file of the newest checkpoint, and its checksums."""
  del options
  stop_half_way(half := folder / 'half')
  newest = max((half / 'checkpoints').iterdir(), key=lambda step: int(step.name))
  files = [*newest.rglob('*'), half / 'seals' / f'{newest.name}.json']
  yield from damage_each(folder, reference, half, [file for file in files if file.is_file()])


def damage_other_files(folder, reference, options):
  """Damages the other files of the run's folder."""
  del options
  stop_half_way(half := folder / 'half_again')
  yield from damage_each(folder, reference, half, [file for file in half.iterdir() if file.is_file()])


def damage_each(folder, reference, half, files):
  """Damages one file at a time, in each way, in a copy of the stopped run `half`."""
  for file, damage in itertools.product(sorted(file.relative_to(half) for file in files), DAMAGES):
    shutil.copytree(half, workdir := folder / 'damaged')
    happened = DAMAGES[damage](workdir / file)
    fault, loss = f'{file} {damage}', find_loss(workdir, reference)
    is_one_line = loss.startswith('exit status 2') and not loss.endswith('lines)')
    if is_one_line and f'{file}' in loss and 'remove it' in loss:
      fault += f' ({loss})'
      (workdir / file).unlink(missing_ok=True)
      loss = find_loss(workdir, reference)
    yield Case(fault, happened, loss)
    shutil.rmtree(workdir)


def truncate(file):
  """Cuts the file to half its length and returns whether it changed: an empty file does not."""
  content = file.read_bytes()
  file.write_bytes(content[: len(content) // 2])
  return bool(content)


def flip_bit(file):
  """Flips a bit in the middle of the file and returns whether it changed: an empty file does not."""
  content = bytearray(file.read_bytes())
  if content:
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
  return bool(content)


def remove(file):
  file.unlink()
  return True


DAMAGES = {'truncated': truncate, 'bit flipped': flip_bit, 'missing': remove}


@contextlib.contextmanager
def mounted(disk, size):
  """Mounts a tmpfs of a size at the folder `disk` and yields `remount(options)`."""

  def mount(options):
    subprocess.run(['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', disk], check=True)

  disk.mkdir()
  mount(f'size={size}')
  try:
    yield lambda options: mount(f'remount,{options}')
  finally:
    subprocess.run(['umount', disk], check=True)


def fill_disk(folder, reference, options):
  """Starts the run on disks that are too small, and again after they have grown."""
  del options
  for size in (100, 200, 300, 450, 600):  # KiB; a whole run needs less than 1200
    disk = folder / f'disk{size}'
    with mounted(disk, f'{size}k') as remount:
      status, _ = finish(start(disk / 'run'))
      remount('size=50m')
      yield Case(f'{size} KiB', status != 0, find_loss(disk / 'run', reference))


def make_read_only(folder, reference, options):
  """Stops a run half-way, starts it on the disk that is now read-only, and again when the disk is writable."""
  del options
  disk = folder / 'read_only'
  with mounted(disk, '50m') as remount:
    stop_half_way(disk / 'run')
    remount('ro')
    status, _ = finish(start(disk / 'run'))
    remount('rw')
    yield Case('read-only', status != 0, find_loss(disk / 'run', reference))


FAULTS = {  # name → (title, function)
  'kill': ('SIGKILL at a random moment', kill_at_random),
  'saving': ('SIGKILL while a checkpoint is written', kill_while_saving),
  'checkpoint': ('a file of the newest checkpoint, or its checksums, damaged', damage_checkpoint),
  'other_files': ("another file of the run's folder damaged", damage_other_files),
  'full_disk': ('a full disk that then has room', fill_disk),
  'read_only': ('a read-only disk that then is writable', make_read_only),
}
NEED_ROOT = ('full_disk', 'read_only')

# ---- the page ----

PAGE = """\
# Faults

Written by `benchmarks/faults.py --kills {kills} --seed {seed}`. Each case is a search on digits of {seconds:.0f} s with
a checkpoint every five steps. One fault hits the run, and then the same command starts it again. A run survived if its
final state, rows and genotype equal those of a run without a fault, bit for bit. A damaged file may stop the second
start with exit status 2 and one line that says to remove it. Then the file was removed and the command started again. A
full or read-only disk may stop the first start with a traceback. The last column counts faults that had no effect, for
example because the run had already finished. They are not among the cases.

| fault | cases | survived | lost | did not happen |
|---|---|---|---|---|
{table}

{losses}{machine}.
"""


def make_reference(folder) -> Reference:
  """Runs the search twice without a fault: the first run fills the compilation cache, the second is measured."""
  os.environ['JAX_COMPILATION_CACHE_DIR'] = str(folder / 'cache')
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
  finish(start(folder / 'first'))
  started = time.perf_counter()
  status, stderr = finish(start(folder / 'reference'))
  if status:
    sys.exit(f'error: the run without a fault ended with status {status}: {stderr}')
  return Reference(read_outcome(folder / 'reference'), time.perf_counter() - started)


def try_fault(title, cases):
  """Prints each case and returns (row of the table, lines of the losses)."""
  ends, losses = collections.Counter(), []
  for case in cases:
    ends[case.end] += 1
    print(f'{title}, {case.fault}: {case.loss or case.end}', flush=True)
    losses += [f'- {title}, {case.fault}: {case.loss}\n'] if case.loss else []
  counts = ends['survived'] + ends['lost'], ends['survived'], ends['lost'], ends['did not happen']
  return f'| {title} | {" | ".join(map(str, counts))} |', losses


def parse_arguments():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--kills', type=int, default=30, help='number of kills at random moments')
  parser.add_argument('--seed', type=int, default=0, help='of the random moments')
  parser.add_argument('--only', default=','.join(FAULTS), help=f'some of {", ".join(FAULTS)}, separated by commas')
  parser.add_argument('--out', type=pathlib.Path, default=ROOT / 'docs' / 'faults.md')
  options = parser.parse_args()
  options.only = options.only.split(',')
  if unknown := sorted(set(options.only) - set(FAULTS)):
    parser.error(f'--only={",".join(unknown)}: expected some of {", ".join(FAULTS)}')
  return options


def main():
  options = parse_arguments()
  names = [name for name in options.only if os.geteuid() == 0 or name not in NEED_ROOT]
  rows, losses = [], []
  with tempfile.TemporaryDirectory() as path:
    folder = pathlib.Path(path)
    reference = make_reference(folder)
    for name in names:
      title, fault = FAULTS[name]
      row, lost = try_fault(title, fault(folder, reference, options))
      rows.append(row)
      losses += lost
  page = PAGE.format(
    kills=options.kills,
    seed=options.seed,
    seconds=reference.seconds,
    table='\n'.join(rows),
    losses=''.join([*losses, '\n']) if losses else '',
    machine=f'{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, jax {jax.__version__}',
  )
  before = options.out.read_text() if options.out.is_file() else ''
  options.out.write_text(page + ''.join(before.partition('\n## ')[1:]))  # the section of process_faults.py stays


if __name__ == '__main__':
  main()

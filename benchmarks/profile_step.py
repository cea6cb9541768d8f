"""Says what the time of a step on CPU goes to: convolutions, BatchNorm, pools and so on, forward and backward.

  taskset -c 0 python benchmarks/profile_step.py nas_bench_201|darts|cifar_network [options]     # see --help

It records one dispatch with JAX's profiler and adds the times of the compiled program's instructions. Their names in
JAX say what each of them computes; a fusion has the name of its last operation. Use one core: on several cores the
times of an instruction overlap.
"""

import collections
import pathlib
import re
import sys
import tempfile

import jax
from jax.profiler import ProfileData
from step import CompiledSteps, make_batch, make_program, parse_arguments
from timing import seconds_a_step

from beta_darts_jax.runtime.devices import make_mesh, set_up

# An instruction belongs to the first part whose pattern its code and its name in JAX match.
PARTS = (
  ('convolutions and matrix products', r'^(convolution|dot) |conv_general_dilated|dot_general'),
  ('pools and depthwise convolutions', r'[Pp]ool|[Dd]epthwise|reduce_window|select_and_'),
  ('BatchNorm', r'batch_norm|BatchNorm_\d+/.*_normalize'),
  ('relu', r'jit\(relu\)'),
  ('gradients of β', r'transpose\(.*/reduce_sum$'),
  ('sums of operations times β, and of nodes', r'jvp\(.*/(add|add_any|mul|cond)$'),
  ('slices and updates in loops over edges', r'dynamic_(update_)?(slice|index)|scatter'),
)
OTHERS = 'copies, optimizers and others'
CONTAINERS = ('while', 'conditional', 'call')  # instructions that contain others, which are timed, too


def names_of_instructions(text):
  """Returns {instruction: its code and its name in JAX} of a compiled program (HLO), without CONTAINERS."""
  names = {}
  for name, code, rest in re.findall(r'^ *(?:ROOT )?%([\w.\-]+) = .*? ([\w\-]+)\((.*)$', text, re.MULTILINE):
    if code not in CONTAINERS:
      found = re.search(r'op_name="([^"]*)"', rest)
      names[name] = f'{code} {found[1] if found else ""}'
  return names


def part_of(name):
  """Returns (the part of a step, its direction) for the code and the name of an instruction."""
  part = next((part for part, pattern in PARTS if re.search(pattern, name)), OTHERS)
  return part, 'backward' if 'transpose(' in name else 'forward'


def seconds_by_instruction(run):
  """Calls `run` and returns {instruction: seconds} of the compiled programs that it executed."""
  seconds = collections.Counter()
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      run()
    (path,) = pathlib.Path(folder).rglob('*.xplane.pb')
    for plane in ProfileData.from_file(str(path)).planes:
      for event in (event for line in plane.lines for event in line.events):
        if instruction := dict(event.stats).get('hlo_op'):
          seconds[instruction] += event.duration_ns / 1e9
  return seconds


def main():
  options = parse_arguments(__doc__)
  if options.devices > 1 or options.serve:
    sys.exit('error: --devices and --serve: expected neither, a profile is of one device')
  set_up(cluster='none')
  program = CompiledSteps(*make_program(options), make_batch(options.batch_size), make_mesh(options.batch_size))
  names = names_of_instructions(program.text)
  program.run(1)
  plain = min(seconds_a_step(program.run, options.steps) for _ in range(options.rounds))
  by_part = collections.Counter()
  for instruction, seconds in seconds_by_instruction(lambda: program.run(options.steps)).items():
    if instruction in names:
      by_part[part_of(names[instruction])] += seconds / options.steps
  total = sum(by_part.values())
  print(f'{" ".join(sys.argv[1:])}: {plain:.3f} s a step, {total:.3f} s with the profiler\n')
  print('| part | forward, s | backward, s | of all, % |\n|---|---|---|---|')
  for part in (*(part for part, _ in PARTS), OTHERS):
    forward, backward = by_part[part, 'forward'], by_part[part, 'backward']
    print(f'| {part} | {forward:.3f} | {backward:.3f} | {100 * (forward + backward) / total:.0f} |')


if __name__ == '__main__':
  main()

"""The commands of beta-darts and their help. This file does not import JAX, so that help is quick."""

from collections.abc import Mapping
from typing import NamedTuple

HELP = {'--help', '-h', '-help', '--helpfull', '--helpshort'}


class Command(NamedTuple):
  """A command of beta-darts."""

  arguments: str
  meaning: str
  flags: Mapping[str, str] = {}  # name: meaning


_RUN = '--config NAME|FILE[:ARGUMENTS] [--workdir DIR] [--config.KEY=VALUE …]'
_FLAGS_OF_RUN = {
  'config': 'name of a config of `beta-darts list configs`, or a file with get_config()',
  'workdir': 'folder of the run; default runs/NAME-DATASET-SEED',
}
COMMANDS = {
  'search': Command(_RUN, 'Searches for a cell, or resumes the search.', _FLAGS_OF_RUN),
  'retrain': Command(_RUN, 'Trains the network of a cell, or resumes the training.', _FLAGS_OF_RUN),
  'report': Command(
    'RUN… [--out FILE.html] [--png] [--watch]',
    'Writes the page of one run, finished or not, of several runs, or the index of a folder of runs.',
    {
      'out': 'file of the page; default report.html in the run, or in the current folder for several runs',
      'png': 'also writes every figure as a PNG',
      'watch': 'writes the page again and again while the run is running',
    },
  ),
  'study': Command('NAME', 'Runs a study of the folder studies/, in a clone.'),
  'query': Command('CELL [--table CSV]', 'Prints the row of a cell in NAS-Bench-201.'),
  'export': Command(
    'RUN [--format torch|stablehlo|safetensors|onnx] --out FOLDER [--config FILE]',
    'Writes the network of a finished retraining for use without this package.',
    {
      'format': 'torch (default), stablehlo, safetensors or onnx',
      'out': 'folder of the export',
      'config': 'file that registers your own operations',
    },
  ),
  'list': Command(
    '[configs|data|methods|spaces|operations|parts|cells]',
    'Prints the names that a command line can use: all, or those of one kind.',
  ),
}

END = """beta-darts COMMAND --help prints its flags; search --help and retrain --help print every KEY.

Exit status: 0 the run is finished, or a signal stopped it after its state was saved; 1 the loss is not finite; 2 the
input cannot be used; 3 another process of the run has ended. Outside the training loop a signal has the system's
default action."""


def print_commands(introduction: str) -> None:
  """Prints the introduction and the arguments of every command."""
  print(introduction)
  for name, (arguments, meaning, _) in COMMANDS.items():
    print(f'  beta-darts {name} {arguments}\n      {meaning}')
  print(f'\n{END}')

"""The command: one line and status 2 for a mistake, Python's traceback for the user's own code, and signals."""

import importlib.metadata
import multiprocessing
import os
import pathlib
import re
import signal
import subprocess
import sys
import types

import pytest
from absl import flags

from beta_darts_jax import InputError, main, run_search
from beta_darts_jax.command import tools
from beta_darts_jax.command.names import KINDS, describe_config, describe_names
from beta_darts_jax.command.usage import COMMANDS
from beta_darts_jax.config import default, default_retrain
from beta_darts_jax.config.shipped import configs

ROOT = pathlib.Path(__file__).parent.parent
DIGITS = '--config=configs/digits.py'
COMMAND_LINES = {  # arguments: (what `parse` returns, the name of the config)
  '--config configs/digits.py': ('search', 'digits'),
  '--config=retrain_cifar10 --config.genotype=SNAS': ('search', 'retrain_cifar10'),  # main looks at config.task
  'search --config digits --workdir=run': ('search', 'digits'),
  'search --config=digits.py --config.name=mine': ('search', 'mine'),
  'search --config nas_bench_201:cifar10,proxy': ('search', 'nas_bench_201_proxy'),
  'retrain -config configs/retrain_cifar10 --config.genotype=SNAS': ('retrain', 'retrain_cifar10'),
  'report --png one --out page.html two': ('report one two', ''),
  '--report=one two --nowatch': ('report one two', ''),
  'export --format=onnx run --out=out': ('export run', ''),
  '--export run --out=out --config=own_operation': ('export run', 'own_operation'),
  'study smoke --tables-only': ('study smoke --tables-only', ''),
  'query --table none.csv 3': ('query --table none.csv 3', ''),
  'list cells': ('list cells', ''),
}
MISTAKES_OF_FLAGS = {  # arguments: what the message names
  'search --config digit': 'Did you mean digits?',
  'search --config digits --config.search.epochs=two': 'config.search.epochs=two: expected an integer > 0',
  'search --config digits --config.search.epochs 3.5': 'config.search.epochs=3.5: expected an integer > 0',
  'search --config mobile:cifar10,pc_darts': 'METHOD one of beta_darts',
  'search --config digits --config.serch.epochs=2': 'Did you mean config.search.epochs',
  '--config retrain_nas_bench_201:cifar10 --config.data.alpha_split=valid': 'alpha_split: a retraining has no such key',
  'search --config digits --config.train.epochs=3': 'config.train.epochs: a search has no such key',
  'retrain --config retrain_cifar10 --config.search.epochs=3': 'config.search.epochs: a retraining has no such key',
  '': '--config=FILE',
  '--config.search.epochs=3': '--config=FILE[:ARGUMENTS] is missing',
  '--config=configs/none.py': '--config=configs/none.py: no such file',
  'search --config none': 'The configs are again, darts, darts_bench_suite, darts_imagenet, digits, mobile, nas',
  'serch --config digits': "unknown command 'serch': expected one of search, retrain, report",
  'retrain --config digits': 'use beta-darts search',
  f'{DIGITS} --config.search.epochs=three': 'search.epochs',
  f'{DIGITS} --config.search.epochs=0': 'config.search.epochs=0: expected',
  f'{DIGITS} --config.supernet.dtype=float8': 'float32, bfloat16',
  'search --config digits:small': 'digits.py:small: this config takes no argument',
  'search --config digits: --config.search.epoch=3': 'Did you mean config.search.epochs',
  'search --config digits --search.epochs=3': 'Did you mean --config.search.epochs?',
  'search --config digits --search.epoch=3': 'Did you mean --config.search.epochs?',
  'retrain --config digits --seed=3': 'Did you mean --config.train.seed?',
  '--config digits --seed=3': 'Did you mean --config.search.seed or --config.train.seed?',
  'report run --wach': 'Did you mean --watch?',
  f'{DIGITS} surplus': 'unexpected surplus: expected beta-darts search --config',
  f'{DIGITS} --out=out --png': 'unexpected --out --png: expected',
  f'report run {DIGITS}': 'unexpected --config',
  'report': 'the folder of a run is missing: expected beta-darts report RUN',
  'export run more --out=out': 'unexpected more',
  'export run --format=onnx': '--out=FOLDER is missing',
  'list --nothing': 'nothing',
}
MISTAKES = {  # kind: (arguments, what the message names)
  'no get_config': (['--config=beta_darts_jax/errors.py'], 'errors.py: the file has no function get_config'),
  'unknown key': ([DIGITS, '--config.search.epoch=3'], 'Did you mean config.search.epochs'),
  'no run to report': (['report', 'none'], 'none'),
  'no run to export': (['--export=none', '--out=none/out'], 'none: no such folder'),
  'unwritable workdir': ([DIGITS, '--workdir=README.md/run'], 'README.md/run'),
  'bucket': ([DIGITS, '--workdir=gs://bucket/run'], 'gs://bucket/run: expected a folder; mount the bucket'),
  'too large batch': ([DIGITS, '--config.search.batch_size=720'], 'config.search.batch_size=720: expected at most 719'),
}


@pytest.fixture(scope='module')
def run_command():
  """A function that runs the command in a process that is forked after the imports, in a third of a second."""
  context = multiprocessing.get_context('forkserver')
  context.set_forkserver_preload(['beta_darts_jax.command.line', 'sklearn.datasets'])

  def run(folder, *arguments, **environment):
    process = context.Process(target=call_cli, args=(folder, arguments, environment))
    process.start()
    process.join()
    outputs = {name: (folder / name).read_text() for name in ('stdout', 'stderr')}
    return types.SimpleNamespace(returncode=process.exitcode, **outputs)

  return run


def call_cli(folder, arguments, environment):
  os.chdir(ROOT)
  os.environ |= environment
  sys.argv = ['beta_darts_jax.main', *map(str, arguments)]
  import jax

  if 'JAX_PLATFORMS' in environment:  # JAX has read its variables before
    jax.config.update('jax_platforms', environment['JAX_PLATFORMS'])

  for number, name in ((1, 'stdout'), (2, 'stderr')):
    os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT), number)
  main.cli()


@pytest.mark.parametrize('kind', MISTAKES)
def test_cli_explains_a_mistake_in_one_line_and_writes_nothing(kind, run_command, tmp_path):
  arguments, named = MISTAKES[kind]
  if not any(argument.startswith(('--workdir', 'report', '--export')) for argument in arguments):
    arguments = [*arguments, f'--workdir={tmp_path}/run']
  done = run_command(tmp_path, *arguments)
  assert done.returncode == 2, done.stderr
  assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1 and named in done.stderr, done.stderr
  assert sorted(file.name for file in tmp_path.iterdir()) == ['stderr', 'stdout']


OPEN_MPI = 'OMPI_MCA_orte_hnp_uri'


@pytest.mark.parametrize(
  'environment, named',
  [
    ({'JAX_PLATFORMS': 'cuda'}, 'JAX_PLATFORMS=cuda: JAX finds no such device'),
    ({'JAX_NUM_CPU_DEVICES': '0'}, 'JAX_NUM_CPU_DEVICES=0: expected 1 or more'),
    ({OPEN_MPI: '1.0;tcp://10.0.0.1:1'}, "(KeyError: 'OMPI_COMM_WORLD_SIZE'); set cluster=none to run alone"),
  ],
)
def test_cli_explains_an_environment_in_which_it_cannot_run(environment, named, run_command, tmp_path):
  done = run_command(tmp_path, DIGITS, f'--workdir={tmp_path}/run', **environment)
  assert done.returncode == 2, done.stderr
  assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1 and named in done.stderr, done.stderr


def test_cli_says_first_where_it_computes(run_command, tmp_path):
  done = run_command(tmp_path, DIGITS, f'--workdir={tmp_path}/run', '--config.search.batch_size=720')
  version = importlib.metadata.version('beta-darts-jax')
  first = done.stdout.splitlines()[0]
  assert re.fullmatch(r'\d\d:\d\d:\d\d', first[:8])  # stdout is no terminal
  assert first[9:] == f'beta_darts_jax {version} on cpu (1 process × 1 device), folder {tmp_path}/run'


def test_cli_keeps_the_traceback_of_the_users_config_file(run_command, tmp_path):
  (tmp_path / 'own.py').write_text('def get_config(name):\n  return {}[name]\n')
  done = run_command(tmp_path, f'--config={tmp_path}/own.py:foo')
  assert done.returncode == 1
  assert 'Traceback' in done.stderr and 'own.py", line 2' in done.stderr and "KeyError: 'foo'" in done.stderr


@pytest.mark.filterwarnings('ignore::DeprecationWarning')  # of ml_collections, which loads the config file
@pytest.mark.parametrize('line', COMMAND_LINES)
def test_a_command_line_names_a_command_its_words_and_its_config(line, parse_line):
  words, name = COMMAND_LINES[line]
  parsed, values = parse_line(line)
  assert parsed == words.split()
  assert (values.config.name if values.config else '') == name


@pytest.mark.filterwarnings('ignore::DeprecationWarning')
@pytest.mark.parametrize('line', MISTAKES_OF_FLAGS)
def test_a_mistake_in_the_flags_is_explained(line, parse_line):
  with pytest.raises((InputError, flags.Error), match=re.escape(MISTAKES_OF_FLAGS[line])):
    parse_line(line)


def test_each_command_has_help(parse_line, capsys):
  for name in ('search', 'retrain', 'report', 'export', 'list'):
    with pytest.raises(SystemExit):
      parse_line(f'{name} --help')
    printed = capsys.readouterr().out
    assert printed.startswith(f'beta-darts {name} ')
    assert [f'\n  {key} = ' in printed for key in ('search.epochs', 'train.epochs')] == [
      name == 'search',
      name == 'retrain',
    ]
  for name in ('study', 'query'):
    with pytest.raises(SystemExit):
      tools.run_tool(name, ['--help'], flags.FLAGS)
    assert f'usage: beta-darts {name} ' in capsys.readouterr().out


@pytest.mark.parametrize('arguments', [[], ['--help'], ['--config=digits', '-h']])
def test_help_has_every_command(arguments, monkeypatch, capsys):
  monkeypatch.setattr(sys, 'argv', ['beta-darts', *arguments])
  main.cli()
  printed = capsys.readouterr().out
  assert printed.startswith(main.__doc__)
  assert all(f'  beta-darts {name} ' in printed for name in COMMANDS)


def test_help_does_not_import_jax():
  code = 'import sys; from beta_darts_jax import main; main.cli(); sys.exit("jax" in sys.modules)'
  assert subprocess.run([sys.executable, '-c', code, '--help'], stdout=subprocess.DEVNULL).returncode == 0


def test_the_version_is_printed(monkeypatch, capsys):
  monkeypatch.setattr(sys, 'argv', ['beta-darts', '--version'])
  main.cli()
  assert importlib.metadata.version('beta-darts-jax') in capsys.readouterr().out


def test_studies_are_in_a_clone_only(monkeypatch, tmp_path):
  monkeypatch.setattr(tools, 'PACKAGE', tmp_path / 'beta_darts_jax')
  with pytest.raises(InputError, match='expected an installation from a clone'):
    tools.run_tool('study', ['smoke'], flags.FLAGS)


def test_what_the_terminal_cannot_print_becomes_an_escape():
  command = [sys.executable, '-m', 'beta_darts_jax.main', 'list', 'configs']
  done = subprocess.run(command, env=os.environ | {'PYTHONIOENCODING': 'ascii'}, capture_output=True, text=True)
  assert done.returncode == 0 and '\\u03b2-DARTS and other methods' in done.stdout


def test_list_shows_the_names_of_each_kind():
  for kind, name in (
    ('configs', 'digits '), ('data', 'folder:PATH'), ('methods', 'drnas '), ('spaces', 's4 '),
    ('operations', 'dil_conv_5x5'), ('cells', 'nas_bench_201  BETA_DARTS'), ('parts', 'relaxation.sampling '),
    ('parts', 'train.schedule '), ('parts', 'wandb'),
  ):  # fmt: skip
    assert name in describe_names(kind) and describe_names(kind) in describe_names()
  assert COMMANDS['list'].arguments == f'[{"|".join(KINDS)}]'
  with pytest.raises(InputError, match='list none: expected one of configs, data'):
    describe_names('none')


def test_list_shows_the_arguments_of_each_config_that_takes_some():
  for name, file in configs().items():
    takes_arguments = re.search(r'^def get_config\(\w', file.read_text(), re.MULTILINE)
    assert ('ARGUMENTS: ' in describe_config(file)) == bool(takes_arguments), name
  assert describe_config(configs()['robust_darts']).endswith(
    'ARGUMENTS: SPACE,DATASET[,proxy]. SPACE is s1, s2, s3 or s4. DATASET is cifar10, cifar100 or svhn'
  )


def test_cli_leaves_signals_outside_the_training_loop_to_the_system():
  """SIGINT while the config file is read ends the process at once, without a traceback."""
  config_file = 'import os, signal; os.kill(os.getpid(), signal.SIGINT)'
  # SIGINT may be ignored where the tests run in the background
  heed = 'import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.executable, sys.argv[1:])'
  command = [sys.executable, '-c', heed, sys.executable, '-m', 'beta_darts_jax.main', '--config=/dev/stdin']
  done = subprocess.run(command, input=config_file, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == -signal.SIGINT and not done.stderr


@pytest.mark.parametrize('key, value', [('search.momentum', -5.0), ('task', 'retrain')])
def test_run_search_checks_the_config(tmp_path, key, value):
  config = default() if key != 'task' else default_retrain()
  if key != 'task':
    config.update_from_flattened_dict({key: value})
  with pytest.raises(InputError, match=f'config.{key}='):
    run_search(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()

"""The command line: flags → config → search or retraining → result.

  python -m beta_darts_jax.main --config configs/digits.py [--workdir DIR] [--config.KEY=VALUE …]
  python -m beta_darts_jax.main --report RUN… [--out FILE.html] [--png]

--report writes the page report.html of a run, finished or not, or of several side by side.

Exit status: 0 finished (or stopped by SIGTERM or SIGINT after saving), 1 the loss
became non-finite, 2 something given cannot be used or what comes out cannot be
written, 130 interrupted elsewhere, 128 + its number by a second signal.
"""

import contextlib
import errno
import functools
import io
import os
import pathlib
import re
import runpy
import select
import shlex
import signal
import sys
import threading
import time

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from beta_darts_jax.errors import InputError, NonFiniteLoss

_CONFIG = config_flags.DEFINE_config_file('config', None, 'FILE[:ARGUMENTS] with get_config().', lock_config=True)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run; default runs/<config>-<dataset>-<seed>.')
_REPORT = flags.DEFINE_string('report', None, 'Folder of a run; more may follow. Writes report.html.')
_OUT = flags.DEFINE_string('out', None, 'File of --report; default report.html in the folder of the run.')
_PNG = flags.DEFINE_bool('png', False, 'With --report: every figure as a PNG, too.')
STOPPING = (
  b'stopping as soon as what is being compiled or evaluated is done; one more, a second later, ends it at once\n'
)
SHOW_CURSOR = b'\x1b[?25h\n'
_FLAGS = '--config, --config.KEY, --workdir, --report, --out and --png'


def parse(argv):
  """absl's flags parser: any mistake is one line that names what is allowed, exit status 2."""
  if {'--help', '-h', '-help', '--helpfull', '--helpshort'} & set(argv[1:]):
    from beta_darts_jax.config import documentation

    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `--help | head` ends in silence
    print(f'{__doc__}\nconfigs/ has the protocols.')
    for task, keys in {'search': 'Every KEY of a search', 'retrain': 'Of a retraining'}.items():
      print(f'\n{keys}:\n')
      for name, default, meaning in documentation(task):
        print(f'  {name} = {default}' + (f'  # {meaning}' if meaning else ''))
    sys.exit(0)
  argv = [*map(_located, argv)]
  sys.argv[1:] = argv[1:]  # which ml_collections reads for --config.KEY
  try:
    rest = flags.FLAGS(argv)
    if _OUT.value == '':
      raise InputError("--out='': allowed is a file")
    if _REPORT.value is not None and _CONFIG.value is None and _WORKDIR.value is None:
      return rest
    if _REPORT.value is not None or _OUT.value is not None or _PNG.value:
      raise InputError('--out and --png are allowed with --report only, --config and --workdir only without it')
    if _WORKDIR.value is not None and (not _WORKDIR.value or os.path.isfile(_WORKDIR.value)):
      raise InputError(f'--workdir={_WORKDIR.value!r}: allowed is a folder')
    if rest[1:]:
      raise InputError(f'unexpected arguments: {" ".join(rest[1:])}; allowed are {_FLAGS}')
    if _CONFIG.value is None:
      raise InputError('--config=FILE[:ARGUMENTS] is missing')
    from beta_darts_jax.config.check import check

    check(_CONFIG.value)
    return rest
  except Exception as error:  # all of it comes from the command line or the config file
    while 'Traceback' in str(error) and (error.__cause__ or error.__context__):
      error = error.__cause__ or error.__context__
    _fail(_explanation(error, argv))


def _located(argument):
  """--config=configs/… of the installed package where the current folder has no such file."""
  match = re.fullmatch(r'(--?config=)?(configs/[^:]+)(:.*)?', argument)
  if match and not os.path.exists(match[2]):
    here = pathlib.Path(__file__).parent
    for folder in (here, here.parent):  # of an installed package; of a clone
      if (folder / match[2]).is_file():
        return f'{match[1] or ""}{folder / match[2]}{match[3] or ""}'
  return argument


def _shipped():
  """Names of the configs that belong to the program."""
  here = pathlib.Path(__file__).parent
  return sorted({file.name for folder in (here, here.parent) for file in folder.glob('configs/[!_]*.py')})


def _explanation(error, argv):
  """What is allowed for the --config.a.b that `error` is about, else what it says itself."""
  from beta_darts_jax.config import DEFAULTS, defaults_for
  from beta_darts_jax.config.check import unknown_key
  from beta_darts_jax.config.schema import keys_of

  message = ' '.join(str(error).split())
  if match := re.match(r'Missing value for flag --(workdir|report|out|config)(?![\w.])', message):
    return f'--{match[1]} without a value: allowed is a {"folder" if match[1] in ("workdir", "report") else "file"}'
  if match := re.match('flag (--png=.*?):', message):
    return f'{match[1]}: allowed is --png'
  if match := re.match(r"Unknown command line flag '([\w.]+)'", message):
    first = match[1].split('.')[0]
    if first != 'config':
      meant = f'did you mean --config.{match[1]}? ' if any(first in make() for make in DEFAULTS.values()) else ''
      return f'unknown --{match[1]}: {meant}allowed are {_FLAGS}'
    if not any(re.match(r'--?config=', argument) for argument in _joined(argv)):
      return f'--{match[1]}: allowed with --config=FILE'
  tree, given_file = None, '--config'
  for argument in _joined(argv):
    if match := re.match(r'--?config=([^:]+):?(.*)', argument):
      given_file = argument
      if not os.path.isfile(match[1]):
        what = 'a folder, allowed is a file' if os.path.isdir(match[1]) else 'no such file'
        return f'--config={match[1]}: {what}; in configs/ are {", ".join(_shipped())}'
      if re.search('get_config.* missing .* required positional', message):
        return f'--config={match[1]}: allowed is --config={match[1]}:ARGUMENT, see the head of the file'
      if 'get_config() takes 0' in message:
        return f'--config={match[1]}:{match[2]}: allowed is --config={match[1]}, which takes no arguments'
      with contextlib.suppress(Exception):  # what is wrong with the file is what `message` says
        tree = defaults_for(runpy.run_path(match[1])['get_config'](*filter(None, [match[2]])))
  for argument in _joined(argv):
    match = re.match(r'--?(?:no)?config\.([\w.]+)(=.*)?', argument)
    if match and tree:
      path, given, node = match[1], match[2] or '', tree
      for name in path.split('.'):
        if not isinstance(node, ConfigDict):
          return f'config.{path}{given}: allowed are values, this is no group'
        if name not in node:
          return unknown_key(path, tree.task)
        node = node[name]
      if path in message and not message.startswith('config.'):
        expected = {key.name: key.expected for key in keys_of(tree.task)}.get(path, 'a group of keys')
        return f'config.{path}{given}: expected {expected}'
  return message if isinstance(error, InputError | flags.Error) else f'{given_file}: {type(error).__name__}: {message}'


def _joined(argv):
  """Arguments with `--name value` written as `--name=value`."""
  arguments = []
  for argument in argv[1:]:
    if arguments and re.fullmatch(r'--?[\w.]+', arguments[-1]) and not argument.startswith('-'):
      arguments[-1] += f'={argument}'
    else:
      arguments.append(argument)
  return arguments


def _fail(message, status=2):
  try:
    print(f'error: {" ".join(message.split())}', file=sys.stderr, flush=True)
  except OSError:
    _silence(2)
  if status == 130:  # at once: threads of a download would be waited for
    os._exit(status)
  sys.exit(status)


def _is_unread(number):
  poll = select.poll()
  poll.register(number, 0)
  return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def _silence(number):
  """A descriptor that nobody reads takes what Python has not written yet."""
  os.dup2(os.open(os.devnull, os.O_WRONLY), number)


@contextlib.contextmanager
def told(goes_on: str):
  """Ends the program with one line, and a status as above, for whatever is no fault of its own.

  That is an InputError, a loss that is not finite, Ctrl-C, a disk that takes no more, output that nobody reads.
  """
  try:
    yield
  except InputError as error:
    _fail(str(error))
  except NonFiniteLoss as error:
    _fail(str(error), status=1)
  except KeyboardInterrupt:
    _fail(f'interrupted; {goes_on}', status=130)
  except BrokenPipeError:
    if not _is_unread(1) and not _is_unread(2):
      raise
    _silence(1)
    _fail(f'nobody reads what it prints; what was saved is kept, and {goes_on}')
  except Exception as error:
    if (reason := _cannot_write(error)) is None:
      raise
    _fail(f'cannot write: {reason}; what was saved is kept, and {goes_on}')


def open_streams() -> None:
  """Closed standard streams lead nowhere; lines are written as they come, what a terminal has no letter for escaped."""
  while (number := os.open(os.devnull, os.O_RDWR)) <= 2:  # in place of a closed one, which a file would take otherwise
    os.set_inheritable(number, True)
  os.close(number)
  sys.stdout = sys.stdout or os.fdopen(1, 'w', closefd=False)
  sys.stderr = sys.stderr or os.fdopen(2, 'w', closefd=False)
  for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper):
      stream.reconfigure(errors='backslashreplace', line_buffering=True)


@contextlib.contextmanager
def stop_signals():
  """An event that SIGTERM or Ctrl-C sets, where the process does not ignore it; one a second later ends the process.

  Python's own handlers wait for the end of a compilation; the thread reads what the system's writes at once.
  """
  stop = threading.Event()
  reading, writing = os.pipe()
  os.set_blocking(writing, False)

  def listen():
    first = 0.0
    while number := os.read(reading, 1)[0]:
      if number not in heeded:
        continue
      if not stop.is_set():
        stop.set()
        first = time.monotonic()
        with contextlib.suppress(OSError):  # who read what it says has gone
          os.write(2, STOPPING)
      elif time.monotonic() > first + 1:  # launchers may pass on what the process got itself
        with contextlib.suppress(OSError):
          os.write(2, SHOW_CURSOR if os.isatty(2) else b'')  # which the bar hides
        os._exit(128 + number)

  heeded = [number for number in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(number) != signal.SIG_IGN]
  thread = threading.Thread(target=listen, daemon=True)
  thread.start()
  other = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
  before = {number: signal.signal(number, lambda *_: None) for number in heeded}
  try:
    yield stop
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
    signal.set_wakeup_fd(other)
    os.write(writing, b'\0')
    thread.join()
    for end in (reading, writing):
      os.close(end)


def main(arguments) -> None:
  if _REPORT.value is not None:
    return write_report([_REPORT.value, *arguments[1:]], _OUT.value, _PNG.value)
  config = _CONFIG.value
  dataset = re.sub(r'[^\w.-]+', '_', config.data.source)
  seed = config.search.seed if config.task == 'search' else config.train.seed
  path = _WORKDIR.value or f'runs/{config.name}-{dataset}-{seed}'
  from beta_darts_jax.config import ignored_options
  from beta_darts_jax.runtime import devices, processes

  names = ('cpu_devices', 'cluster', 'coordinator', 'processes', 'process')
  logging.set_verbosity(logging.WARNING)
  with told(f'the same command goes on with {path}'):
    devices.set_up(**{name: config.parallel[name] for name in names})
    if not processes.is_process_zero():
      sys.stdout = open(os.devnull, 'w')  # noqa: SIM115 (process 0 speaks)
    for said in ignored_options(config):
      print(said)
    try:
      {'search': run_search, 'retrain': run_retrain}[config.task](config, path)
    except NonFiniteLoss:
      if processes.is_process_zero():
        add_report(path)
      raise
    if processes.is_process_zero():
      add_report(path)


def _cannot_write(error):
  """What the system says of a disk that takes no more, in `error` or what it came from; None of other errors."""
  while error is not None:
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO):
      # TensorStore and Orbax put the system's words into errors of their own
      if getattr(error, 'errno', None) == number or os.strerror(number) in str(error):
        return os.strerror(number)
    error = error.__cause__ or error.__context__
  return None


def write_report(paths, out, png) -> None:
  """Writes report.html and says where it is."""
  from beta_darts_jax import report

  page = report.write(paths, out, png)
  print(page)
  if png:
    print(report.figures_folder(page))


def add_report(path) -> None:
  """report.html of a run that ended, if it has none since; a failure costs the page and not the run."""
  page, result = (os.path.join(path, name) for name in ('report.html', 'result.json'))
  if all(map(os.path.exists, (page, result))) and os.path.getmtime(page) >= os.path.getmtime(result):
    return print(f'report    {page}')
  try:
    from beta_darts_jax import report

    report.write([path])
  except (Exception, KeyboardInterrupt) as error:
    print(f'no report: {str(error) or "interrupted"}', file=sys.stderr)
  else:
    print(f'report    {page}')


def run_search(config, path) -> None:
  """Searches, and retrains what was found beside random cells if the config says so."""
  started = time.perf_counter()
  from beta_darts_jax import data
  from beta_darts_jax.retrain import comparison
  from beta_darts_jax.runtime import processes, workdir
  from beta_darts_jax.search import programs
  from beta_darts_jax.search import run as search
  from beta_darts_jax.spaces import nas_bench_201
  from beta_darts_jax.spaces.space import NAS_BENCH_201

  space = programs.space_of(config)
  processes.run_on_process_zero(workdir.refuse_other_config, path, config.to_dict())
  if (result := workdir.read_result(path)) is not None:
    print(f'{path} is finished')
    return report(result, path)
  table = nas_bench_201.find_table(config.benchmark.table) if space == NAS_BENCH_201 else None
  print(f'reading {config.data.source}', flush=True)
  dataset = quietly(data.load, config.data.source, config.data.data_dir, config.data.image_size)
  dataset = dataset.half(config.data.part)
  programs.check_sizes(config, dataset)
  with workdir.Workdir(path, config.to_dict(), command()) as run:
    benchmarked = nas_bench_201.covers(space, dataset.name)
    if benchmarked and table is None:
      print(nas_bench_201.HOW_TO_GET)
    if not benchmarked and (config.benchmark.kendall_cells or config.diagnostics.kendall_cells):
      print(f'no benchmark has the cells of {space.name} on {dataset.name}: Kendall τ is left out')
    print('compiling', flush=True)
    search_started = time.perf_counter()
    with stop_signals() as stop:
      outcome = search.run(config, dataset, table, run, stop)
      search_seconds = time.perf_counter() - search_started
      result = search.summarize(config, dataset, table, run, outcome, stop) if outcome else None
      if result and config.retrain.epochs:
        print(f'training the found cell, and {config.retrain.random_cells} random ones', flush=True)
        result['retrain'] = processes.run_on_process_zero(
          comparison.compare, space, result['genotype'], dataset, config, run, stop
        )
      stopped = processes.any_process(result is None or (bool(config.retrain.epochs) and stop.is_set()))
    if stopped or result is None:
      return print(f'stopped and saved in {path}; the same command goes on from there')
    other = time.perf_counter() - started - search_seconds  # data, Kendall's τ, retraining
    result['seconds']['other'] = round(other, 2)
    run.finish(result)
    return report(result, path)


def run_retrain(config, path) -> None:
  """Trains the network of one genotype to the end."""
  started = time.perf_counter()
  from beta_darts_jax import data
  from beta_darts_jax.data import streaming
  from beta_darts_jax.retrain import run as retrain
  from beta_darts_jax.retrain.step import variables_of
  from beta_darts_jax.runtime import devices, processes, workdir
  from beta_darts_jax.runtime.workdir import environment, peak_memory
  from beta_darts_jax.spaces import lookup

  genotype, auxiliary_skip = lookup.find_genotype(config.genotype)
  config.genotype = str(genotype)  # the cell itself, so that the run keeps it whatever becomes of its file
  config.network.auxiliary_skip |= auxiliary_skip
  retrain.check_network(genotype, config.network.stem, config.network.auxiliary_weight)
  processes.run_on_process_zero(workdir.refuse_other_config, path, config.to_dict())
  if (result := workdir.read_result(path)) is not None:
    print(f'{path} is finished')
    return report_retrain(result, path)
  where = config.data.source, config.data.data_dir, config.data.image_size
  print(f'reading {config.data.source}', flush=True)
  if config.data.source == 'imagenet2012':
    names = ('flip', 'crop_scale', 'color_jitter', 'resize')
    augmentation = {name: config.data[name] for name in names}
    dataset = quietly(functools.partial(streaming.load, **augmentation), *where)
  else:
    dataset = quietly(data.load, *where).half(config.data.part)
  network = retrain.make_network(genotype, dataset.num_classes, config.network, dataset.image_shape[:2])
  retrain.check_sizes(config, dataset)
  mesh = devices.make_mesh(config.train.batch_size, data=config.parallel.data)
  with workdir.Workdir(path, config.to_dict(), command()) as run:
    if changes := run.environment_changes(environment(mesh)):
      print(f'this run began elsewhere, so its last bits may come out differently: {"; ".join(changes)}', flush=True)
    print('compiling', flush=True)
    train_started = time.perf_counter()
    with stop_signals() as stop:
      programs = retrain.build(config, network, dataset, mesh)
      counts = retrain.describe_network(network, variables_of(programs.state), dataset.image_shape)
      rows = retrain.run(config, programs, run, stop)
      train_seconds = time.perf_counter() - train_started
    if rows is None:
      return print(f'stopped and saved in {path}; the same command goes on from there')
    last = rows[-1]
    result = {'genotype': str(genotype), 'dataset': dataset.name}
    result |= {name: last[name] for name in ('train_accuracy', 'test_accuracy', 'test_top5_accuracy')}
    result |= counts
    # of all processes that worked on the run, but for what was stopped or killed within an epoch
    train = sum(row['seconds'] for row in rows)
    other = time.perf_counter() - started - train_seconds
    seconds = {'compile': programs.compile_seconds, 'train': train, 'other': other}
    result['seconds'] = {name: round(value, 2) for name, value in seconds.items()}
    result['memory'] = peak_memory()
    result['environment'] = environment(mesh)
    run.finish(result)
    return report_retrain(result, path)


def command() -> str:
  """What began this process."""
  return shlex.join(['python', '-m', 'beta_darts_jax.main', *sys.argv[1:]])


def quietly(load, *arguments):
  """Calls `load` without TFDS' recommendations of packages."""
  logging.set_verbosity(logging.ERROR)
  try:
    return load(*arguments)
  finally:
    logging.set_verbosity(logging.WARNING)


def report(result: dict, path) -> None:
  """Prints what a finished run found."""
  if 'members' in result:
    return report_population(result, path)
  print(f'\ngenotype  {result["genotype"]}')
  if result['stopped_early']:
    print(f'stopped   early: the cell of epoch {result["epoch"] + 1}')
  if 'benchmark' in result:
    from beta_darts_jax.spaces.nas_bench_201 import NUM_CELLS

    row, dataset = result['benchmark'], result['dataset']
    accuracy, rank = row[f'{dataset}_test'], row[f'{dataset}_test_rank']
    print(
      f'benchmark {dataset} test {accuracy:.2f} %, rank {rank} of {NUM_CELLS:,}, valid {row[f"{dataset}_valid"]:.2f} %'
    )
    print_baselines(result['baselines'])
  for name, tau in result.get('kendall_tau', {}).items():
    interval = f'(95 %: {tau["low"]:.3f} … {tau["high"]:.3f}, n {tau["n"]})'
    print(f'kendall   {name.replace("_", " ")} τ {tau["tau"]:.3f} {interval}')
  if 'retrain' in result:
    found, others = result['retrain']['found'], result['retrain']['random']
    for who, cell in [('found ', found), *(('random', other) for other in others)]:
      reached = 'diverged' if cell['test_accuracy'] is None else f'test accuracy {100 * cell["test_accuracy"]:.2f} %'
      figures = f'{reached} ({cell["parameters"]:,} parameters)'
      print(f'retrained {who} {figures}  {cell["genotype"]}')
  print(f'run       {path}')


def print_baselines(baselines: dict) -> None:
  """Prints the accuracies (percent) to hold a search against."""
  print('baselines ' + ', '.join(f'{name.replace("_", " ")} {value:.2f}' for name, value in baselines.items()))


def report_population(result: dict, path) -> None:
  """Prints the members of a finished population, and mean ± standard deviation of each setting over its seeds."""
  from beta_darts_jax.search.population import setting_of

  def spread(value, scale=1.0):
    if value['mean'] is None:
      return '-'
    return f'{scale * value["mean"]:.2f}' + ('' if value['std'] is None else f' ± {scale * value["std"]:.2f}')

  names = lambda member: ' '.join(f'{name}={value:g}' for name, value in setting_of(member).items())
  print()
  for member in result['members']:
    found = member['genotype'] or 'diverged'
    print(f'member {member["member"]}  seed {member["seed"]}  {names(member)}  {found}'.replace('    ', '  '))
  for setting in result['settings']:
    line = f'valid accuracy {spread(setting["valid_accuracy"], 100)} %, {setting["genotypes"]} cells'
    if benchmark := setting.get('benchmark'):
      accuracy, rank = benchmark[f'{result["dataset"]}_test'], benchmark[f'{result["dataset"]}_test_rank']
      line += f', benchmark test {spread(accuracy)} %, rank {spread(rank)}'
    if setting['diverged']:
      line += f', {setting["diverged"]} diverged'
    print(f'{names(setting) or "all"}  n={setting["valid_accuracy"]["n"]}: {line}')
  if 'baselines' in result:
    print_baselines(result['baselines'])
  print(f'run       {path}')


def report_retrain(result: dict, path) -> None:
  """Prints what a finished training reached."""
  print(f'\ngenotype  {result["genotype"]}')
  top1, top5 = 100 * result['test_accuracy'], 100 * result['test_top5_accuracy']
  print(f'{result["dataset"]} test accuracy {top1:.2f} %, top-5 {top5:.2f} % (last epoch)')
  print(f'network   {result["parameters"]:,} parameters, {result["multiply_adds"]:,} multiply-adds an image')
  print(f'run       {path}')


def cli() -> None:
  """The console command beta-darts."""
  if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # which was for the imports, see __init__.py
    signal.signal(signal.SIGINT, signal.default_int_handler)
  open_streams()
  with told('the same command goes on'):
    app.run(main, flags_parser=parse)


if __name__ == '__main__':
  cli()

"""Runs a search or a retraining from a config, from the first check to the page."""

import os
from collections.abc import Sequence

from ml_collections import ConfigDict

from beta_darts_jax import __version__, report
from beta_darts_jax.command.end import finish, page_of_unfinished_run
from beta_darts_jax.config.check import check
from beta_darts_jax.config.schema import DEFAULTS, default_path
from beta_darts_jax.data import announce
from beta_darts_jax.retrain import run as retrain_run
from beta_darts_jax.retrain.result import RetrainResult
from beta_darts_jax.retrain.setup import load_dataset, make_retrain_setup, resolve_genotype
from beta_darts_jax.runtime.devices import describe_devices
from beta_darts_jax.runtime.logs import Logger
from beta_darts_jax.runtime.processes import run_on_all_processes, run_on_process_zero
from beta_darts_jax.runtime.workdir import Workdir, local_folder, read_result, refuse_other_config
from beta_darts_jax.search import run as search_run
from beta_darts_jax.search.result import SearchResult
from beta_darts_jax.search.setup import find_benchmark, load_search_data, make_search_setup, make_search_space


def run_search(
  config: ConfigDict, workdir: str | os.PathLike | None = None, command: str = '', loggers: Sequence[Logger] = ()
) -> SearchResult:
  """Runs a search to the end, or resumes it, and writes its page, as the command does.

  Args:
    config: from config.default() or a file in configs/.
    workdir: folder of the run; None is runs/NAME-DATASET-SEED.
    command: command line that started the run, for environment.json.
    loggers: more loggers than config.loggers names; see docs/runs.md.

  Raises:
    InputError: the config, a logger, the data or the folder cannot be used.
    NonFiniteLoss: all members diverged.
    Stopped: a signal came. The state is saved.
  """
  check(config, 'search')
  used = [*report.find_loggers(config.loggers), *loggers]
  path = local_folder(workdir or default_path(config, config.search.seed))
  space = make_search_space(config)
  if values := _finished(path, config):
    return _show(SearchResult(path, values))
  dataset = run_on_all_processes(load_search_data, config.data)
  facts = announce(dataset, config.data.fraction, searches=True, alpha_fraction=config.data.alpha_fraction)
  setup = make_search_setup(config, dataset)
  facts |= setup.costs.record() if setup.costs else {}
  table = find_benchmark(config, space, dataset.name)
  with page_of_unfinished_run(path), _open(path, config, command, facts, used) as folder:
    result = search_run.run(setup, dataset, table, folder)
  return _show(result)


def run_retrain(
  config: ConfigDict, workdir: str | os.PathLike | None = None, command: str = '', loggers: Sequence[Logger] = ()
) -> RetrainResult:
  """Trains the network of config.genotype to the end, or resumes it, and writes its page, as the command does.

  Args:
    config: from config.default_retrain() or a file in configs/.
    workdir, command, loggers: as in `run_search`.

  Raises:
    InputError: the config, the genotype, a logger, the data or the folder cannot be used.
    NonFiniteLoss: the training diverged.
    Stopped: a signal came. The state is saved.
  """
  check(config, 'retrain')
  used = [*report.find_loggers(config.loggers), *loggers]
  path = local_folder(workdir or default_path(config, config.train.seed))
  genotype = resolve_genotype(config)
  if values := _finished(path, config):
    return _show(RetrainResult(path, values))
  dataset = run_on_all_processes(load_dataset, config.data)
  facts = announce(dataset, config.data.fraction)
  setup = make_retrain_setup(config, genotype, dataset)
  with page_of_unfinished_run(path), _open(path, config, command, facts, used) as folder:
    result = retrain_run.run(setup, dataset, folder)
  return _show(result)


def _open(path, config: ConfigDict, command: str, facts: dict, loggers: Sequence[Logger]) -> Workdir:
  """Opens the folder of a run of the config."""
  defaults = DEFAULTS[config.task]().to_dict()
  return Workdir(path, config.to_dict(), command, data=facts, loggers=loggers, defaults=defaults)


def _finished(path, config) -> dict | None:
  """Says where the run computes. Returns the result of a finished run of the config in `path`, None otherwise."""
  print(f'beta_darts_jax {__version__} on {describe_devices()}, folder {path}', flush=True)
  run_on_process_zero(refuse_other_config, path, config.to_dict(), DEFAULTS[config.task]().to_dict())
  values = read_result(path)
  print(f'{path} is finished' if values else f'reading {config.data.source}', flush=True)
  return values


def _show(result):
  """Prints a result and writes the page of its run."""
  print(f'\n{result}')
  finish(result.path)
  return result

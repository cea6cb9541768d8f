"""The kept runs of a study: config, result and every row of metrics.jsonl.

An arm that ran as one population is the file ARM.json. An arm that ran in groups of seeds has a file for each group,
ARM.FIRST-LAST.json, where FIRST and LAST are the first and the last seed of the group.
"""

import dataclasses
import json
import pathlib
import re

from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from beta_darts_jax.errors import InputError
from beta_darts_jax.runtime.files import write_json
from studies.study import Study

# keys that earlier versions had, with the value that means what this version does
REMOVED = {'search.alpha_rate_factors': [], 'search.shuffled_alpha_labels': False, 'tensorboard': False}


@dataclasses.dataclass(frozen=True)
class Record:
  """What is kept of an arm.

  Attributes:
    config: the settings, as JSON. Those of an arm that ran in groups have the seeds of the first group.
    dataset: the name of the data.
    environments: machine and versions of each group, without repetitions.
    searches: {seed: the rows of metrics.jsonl of that search}.
    shares: {seed: the number of searches that ran together with that one as one program, itself included}.
  """

  config: dict
  dataset: str
  environments: tuple[dict, ...]
  searches: dict[int, list[dict]]
  shares: dict[int, int]


def record_path(evidence: pathlib.Path, place: str, group: range | None = None) -> pathlib.Path:
  """Returns the file of an arm, given as 'STUDY/ARM', or of a group of its seeds."""
  study, arm = place.split('/', 1)
  return evidence / study / 'runs' / f'{group_name(arm, group)}.json'


def group_name(arm: str, group: range | None) -> str:
  """Returns the name of the files and folders of a group of an arm's seeds, or of the arm if `group` is None."""
  return arm if group is None else f'{arm}.{group[0]}-{group[-1]}'


def kept_files(evidence: pathlib.Path, place: str) -> list[pathlib.Path]:
  """Returns the files that are kept of an arm, given as 'STUDY/ARM': that of the arm, then its groups by seed."""
  whole = record_path(evidence, place)
  group = re.compile(rf'{re.escape(whole.stem)}\.(\d+)-\d+\.json')
  by_seed = {int(found[1]): path for path in whole.parent.glob('*.json') if (found := group.fullmatch(path.name))}
  groups = [by_seed[seed] for seed in sorted(by_seed)]
  return [whole, *groups] if whole.is_file() else groups


def seeds_of(config: ConfigDict) -> range:
  """Returns the seeds of an arm."""
  return range(config.search.seed, config.search.seed + config.population.seeds)


def with_seeds(config: ConfigDict, seeds: range) -> ConfigDict:
  """Returns the config of some of an arm's seeds."""
  part = config.copy_and_resolve_references()
  part.search.seed, part.population.seeds = seeds.start, len(seeds)
  return part


def plain(config: ConfigDict) -> dict:
  """Returns the config as JSON reads it back, without `parallel`, which does not change what is searched."""
  tree = json.loads(json.dumps(config.to_dict()))
  return {name: value for name, value in tree.items() if name != 'parallel'}


def changed_keys(config: dict, kept: dict) -> list[str]:
  """Returns the keys of a kept config whose values `config` does not have.

  Keys that came later may be missing in `kept`: their defaults leave a search as it was. Keys that were removed may be
  there if they had no effect.
  """
  ours, theirs = (flatten_dict(tree, sep='.') for tree in (config, kept))
  missing = object()
  in_effect = {name: value for name, value in theirs.items() if REMOVED.get(name, missing) != value}
  return [name for name, value in in_effect.items() if ours.get(name, missing) != value]


def kept_seeds(evidence: pathlib.Path, place: str, config: ConfigDict) -> list[int]:
  """Returns the seeds of an arm, given as 'STUDY/ARM', that are kept.

  Raises:
    InputError: they were run with other settings than `config`, they are not among its seeds, or two files have the
      same seed.
  """
  found: list[int] = []
  for path in kept_files(evidence, place):
    kept = json.loads(path.read_text())['config']
    first = kept['search']['seed']
    seeds = range(first, first + kept['population']['seeds'])
    changed = changed_keys(plain(with_seeds(config, seeds)), kept)
    if not set(seeds) <= set(seeds_of(config)):
      changed.append('search.seed')
    if changed:
      raise InputError(
        f'{path} was run with other settings ({", ".join(changed)}): move it away, or choose another --evidence'
      )
    if twice := sorted(set(seeds) & set(found)):
      raise InputError(f'{path} has seed {twice[0]}, which another file of the arm has, too: move one of them away')
    found += seeds
  return found


def keep(path: pathlib.Path, config: ConfigDict, result: dict, rows: list[dict]) -> None:
  """Writes the file of an arm, or of a group of its seeds."""
  path.parent.mkdir(parents=True, exist_ok=True)
  write_json(path, {'config': plain(config), 'result': result, 'rows': rows}, indent=None)


def read_records(study: Study, evidence: pathlib.Path) -> dict[str, Record]:
  """Returns {arm: what is kept of it} for the arms that are kept, borrowed ones first."""
  files = {arm: kept_files(evidence, place) for arm, place in study.places().items()}
  return {arm: read_record(paths) for arm, paths in files.items() if paths}


def read_record(paths: list[pathlib.Path]) -> Record:
  """Returns what is kept of one arm in `paths`, a file for each group of seeds."""
  groups = [json.loads(path.read_text()) for path in paths]
  searches: dict[int, list[dict]] = {}
  shares: dict[int, int] = {}
  for group in groups:
    rows = _by_seed(group)
    searches |= rows
    shares |= dict.fromkeys(rows, len(rows) if 'member' in group['rows'][0] else 1)
  environments = [group['result']['environment'] for group in groups]
  return Record(
    config=groups[0]['config'],
    dataset=groups[0]['result']['dataset'],
    environments=tuple(place for i, place in enumerate(environments) if place not in environments[:i]),
    searches=searches,
    shares=shares,
  )


def _by_seed(group):
  found: dict[int, list[dict]] = {}
  for row in group['rows']:
    found.setdefault(row.get('seed', group['config']['search']['seed']), []).append(row)
  return found
